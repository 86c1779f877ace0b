#include "bench/decode_step/spec.h"

#include <charconv>

#include <fmt/format.h>

#include "tools/tandem/command.h"

namespace tandem::bench {
std::string selector_name(const Json& selector) {
  std::string name = selector.at("kind").get<std::string>();
  for (const auto& [field, value] : selector.items()) {
    if (field == "kind") continue;
    name += fmt::format(" {}={}", field, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return name;
}

std::int64_t parse_tokens(const std::string& field, const std::string& text) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::int64_t factor = unit.empty() ? 1 : unit == "K" ? 1 << 10 : unit == "M" ? 1 << 20 : 0;
  if (error != std::errc{} || factor == 0 || value < 1 || value > kMost / factor)
    throw cli::UsageError(
        fmt::format("{}: '{}' is not allowed; allowed: 1 to 16M, with K or M for 2^10 or 2^20", field, text));
  return value * factor;
}

}  // namespace tandem::bench
