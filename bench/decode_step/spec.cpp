#include "bench/decode_step/spec.h"

#include <charconv>

#include <fmt/format.h>

#include "tools/tandem/command.h"
#include "tools/tandem/options.h"

namespace tandem::bench {
namespace {

/// A number when all of `text` is one.
Json value_of(const std::string& text) {
  const Json value = Json::parse(text, nullptr, false);
  return value.is_number() ? value : Json(text);
}

[[noreturn]] void refuse(const std::string& text) {
  throw cli::UsageError(
      fmt::format("--selector: '{}' is not allowed; allowed: KIND, KIND:FIELD=VALUE,.. or a JSON object", text));
}

}  // namespace

Json parse_selector(const std::string& text) {
  if (text.starts_with('{')) {
    const Json object = Json::parse(text, nullptr, false);
    if (!object.is_object() || !object.contains("kind")) refuse(text);
    return object;
  }
  const auto colon = std::min(text.find(':'), text.size());
  Json selector = {{"kind", text.substr(0, colon)}};
  if (colon == 0) refuse(text);
  if (colon == text.size()) return selector;
  for (const auto& part : cli::split_list(text.substr(colon + 1))) {
    const auto equals = part.find('=');
    if (equals == std::string::npos || equals == 0) refuse(text);
    selector[part.substr(0, equals)] = value_of(part.substr(equals + 1));
  }
  return selector;
}

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
