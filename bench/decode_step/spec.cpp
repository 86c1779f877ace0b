#include "bench/decode_step/spec.h"

#include <fmt/format.h>

namespace tandem::bench {
std::string selector_name(const Json& selector) {
  std::string name = selector.at("kind").get<std::string>();
  for (const auto& [field, value] : selector.items()) {
    if (field == "kind") continue;
    name += fmt::format(" {}={}", field, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return name;
}

}  // namespace tandem::bench
