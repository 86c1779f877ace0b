#include "tools/tandem/selector_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/selector_json.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"

namespace tandem::cli {
namespace {

constexpr std::int32_t kMaxBits = 12;
constexpr std::int32_t kMaxTables = 300;

[[noreturn]] void refuse(const std::string& field, const std::string& text) {
  throw UsageError(
      not_allowed(field, text, selector_kinds() + ", KIND:BUDGET, lsh:K,L, KIND:FIELD=VALUE,.. or a JSON object"));
}

/// A number or a truth value when all of `text` is one.
Json value_of(const std::string& text) {
  Json value = Json::parse(text, nullptr, false);
  return value.is_number() || value.is_boolean() ? value : Json(text);
}

Json parse_object(const std::string& field, const std::string& text) {
  Json object = Json::parse(text, nullptr, false);
  if (!object.is_object() || !object.contains("kind")) refuse(field, text);
  return object;
}

bool names(const Json& object, const char* field) { return object.contains(field) && !object.at(field).is_null(); }

/// Of a budget and an error that `selector` may both have had, what `object` names goes, else the error; and a kind
/// keeps what it takes.
void keep_one_amount(const Json& object, td_selector& selector) {
  if (selector.kind != TD_SELECT_SKETCH || (names(object, "budget") && !names(object, "error"))) selector.error = 0;
  const bool takes_none = selector.kind == TD_SELECT_ALL || selector.kind == TD_SELECT_LSH;
  if (takes_none || (selector.error > 0 && !names(object, "budget"))) selector.budget = 0;
}

/// "sketch2" -> 2; 0 for names without a number of bits.
int bits_in(const std::string& kind) { return kind == "sketch1" ? 1 : kind == "sketch2" ? 2 : 0; }

/// The short forms, whose knobs have no names.
void add_short_form(const std::string& field, const std::string& knobs, Json& selector) {
  try {
    if (selector.at("kind") != "lsh") {
      selector["budget"] = parse_budget(field, knobs);
      return;
    }
    td_selector lsh{};
    parse_lsh(field, knobs, lsh);
    selector["lsh_bits"] = lsh.lsh_bits;
    selector["lsh_tables"] = lsh.lsh_tables;
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}, or FIELD=VALUE,..", error.what()));
  }
}

}  // namespace

Json parse_selector(const std::string& field, const std::string& text) {
  if (text.starts_with('{')) return parse_object(field, text);
  const auto colon = std::min(text.find(':'), text.size());
  const std::string name = text.substr(0, colon);
  const int bits = bits_in(name);
  const std::int32_t kind = bits > 0 ? TD_SELECT_SKETCH : selector_kind_named(name);
  if (kind < 0) refuse(field, text);
  Json selector = {{"kind", kSelectorKinds.at(static_cast<std::size_t>(kind))}};
  if (bits > 0) selector["sketch_bits"] = bits;
  if (colon == text.size()) return selector;
  const std::string knobs = text.substr(colon + 1);
  if (knobs.find('=') == std::string::npos && kind != TD_SELECT_ALL) {
    add_short_form(field, knobs, selector);
    return selector;
  }
  for (const auto& part : split_list(knobs)) {
    const auto equals = part.find('=');
    if (equals == std::string::npos || equals == 0) refuse(field, text);
    selector[part.substr(0, equals)] = value_of(part.substr(equals + 1));
  }
  return selector;
}

void read_selector(const std::string& field, const Json& object, td_selector& selector) {
  try {
    tandem::read_selector(nlohmann::json(object), selector);
    keep_one_amount(object, selector);
    check_amount(selector);
  } catch (const Error& error) {
    throw UsageError(fmt::format("{}{}{}", field, field.empty() ? "" : ": ", error.what()));
  }
}

std::string selector_kinds() {
  std::string kinds = listed(kSelectorKinds);
  std::replace(kinds.begin(), kinds.end(), '_', '-');
  return kinds;
}

double parse_budget(const std::string& field, const std::string& text) {
  const double value = parse_or(text, 0.0);
  if (!(value > 0 && value <= 1)) throw UsageError(not_allowed(field, text, "a share above 0 and at most 1"));
  return value;
}

void parse_lsh(const std::string& field, const std::string& text, td_selector& selector) {
  const auto comma = std::min(text.find(','), text.size());
  const auto bits = parse_or<std::int32_t>(std::string_view(text).substr(0, comma), 0);
  const auto tables = comma < text.size() ? parse_or<std::int32_t>(std::string_view(text).substr(comma + 1), 0) : 0;
  if (bits < 1 || bits > kMaxBits || tables < 1 || tables > kMaxTables) {
    const auto allowed =
        fmt::format("K,L with K (bits per table) 1 to {} and L (tables) 1 to {}", kMaxBits, kMaxTables);
    throw UsageError(not_allowed(field, text, allowed));
  }
  selector.lsh_bits = bits;
  selector.lsh_tables = tables;
}

Json to_json(const td_selector& selector) { return selector_to_json<Json>(selector); }

std::string describe(const td_selector& selector) {
  if (selector.kind == TD_SELECT_TOP_K) return fmt::format("topk {}", selector.budget);
  if (selector.kind == TD_SELECT_ALL) return "all";
  if (selector.kind == TD_SELECT_SKETCH || selector.kind == TD_SELECT_SKETCH_TOP_K) {
    const auto bits = selector.sketch_bits == 0 ? std::string() : fmt::format(", {} bit", selector.sketch_bits);
    const auto goal = selector.error > 0 ? fmt::format("error {}", selector.error) : fmt::format("{}", selector.budget);
    return fmt::format("sketch{} {}{}{}", selector.kind == TD_SELECT_SKETCH ? "" : " topk", goal, bits,
                       selector.unbiased != 0 ? ", unbiased" : "");
  }
  const char* planes = selector.lsh_planes == TD_PLANES_GAUSSIAN ? " gaussian" : "";
  const char* suffix = selector.lsh_min_collisions == 1 ? " (1 collision)" : "";
  return fmt::format("lsh {},{}{}{}", selector.lsh_bits, selector.lsh_tables, planes, suffix);
}

}  // namespace tandem::cli
