#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include <nlohmann/json.hpp>

#include "runtime/json_fields.h"
#include "tandem/tandem.h"

namespace tandem {

// How td_selector reads as JSON, for the library and for the command line: the one list of its kinds and fields.

inline constexpr std::array<const char*, 5> kSelectorKinds = {"all", "topk", "lsh", "sketch",
                                                              "sketch_topk"};           // by td_selector_kind
inline constexpr std::array<const char*, 2> kLshPlaneNames = {"hadamard", "gaussian"};  // by td_lsh_planes

struct SelectorField {
  enum class Form : std::uint8_t { number, flag, planes };

  const char* name;
  Form form;
  std::variant<double td_selector::*, std::int32_t td_selector::*, std::uint64_t td_selector::*> value;
  unsigned kinds;  ///< that have it, 1 << td_selector_kind each

  [[nodiscard]] bool is_of(std::int32_t kind) const noexcept { return ((kinds >> kind) & 1u) != 0; }
};

inline constexpr SelectorField kSelectorFields[] = {
    {"budget", SelectorField::Form::number, &td_selector::budget,
     1u << TD_SELECT_TOP_K | 1u << TD_SELECT_SKETCH | 1u << TD_SELECT_SKETCH_TOP_K},
    {"error", SelectorField::Form::number, &td_selector::error, 1u << TD_SELECT_SKETCH},
    {"sketch_bits", SelectorField::Form::number, &td_selector::sketch_bits,
     1u << TD_SELECT_SKETCH | 1u << TD_SELECT_SKETCH_TOP_K},
    {"unbiased", SelectorField::Form::flag, &td_selector::unbiased, 1u << TD_SELECT_SKETCH},
    {"lsh_bits", SelectorField::Form::number, &td_selector::lsh_bits, 1u << TD_SELECT_LSH},
    {"lsh_tables", SelectorField::Form::number, &td_selector::lsh_tables, 1u << TD_SELECT_LSH},
    {"lsh_min_collisions", SelectorField::Form::number, &td_selector::lsh_min_collisions, 1u << TD_SELECT_LSH},
    {"lsh_planes", SelectorField::Form::planes, &td_selector::lsh_planes, 1u << TD_SELECT_LSH},
    {"seed", SelectorField::Form::number, &td_selector::seed, 1u << TD_SELECT_LSH | 1u << TD_SELECT_SKETCH},
};

/// A budget and an error say how much to select, and are never ignored: whoever gives one with a kind that takes none
/// expects a selection, and of both the one would be lost. Throws Error(invalid_argument). Other fields that a kind
/// does not have are not read.
inline void check_amount(const td_selector& selector) {
  for (const SelectorField& field : kSelectorFields) {
    const std::string name = field.name;
    if ((name != "budget" && name != "error") || field.is_of(selector.kind)) continue;
    const double value = selector.*std::get<double td_selector::*>(field.value);
    TANDEM_CHECK(value == 0, invalid_argument, "selector.", name, " is ", value, " and selector.kind ", selector.kind,
                 " (", kSelectorKinds.at(static_cast<std::size_t>(selector.kind)),
                 "), which has none; allowed: 0 with this kind");
  }
  TANDEM_CHECK(selector.budget == 0 || selector.error == 0, invalid_argument, "selector.budget is ", selector.budget,
               " and selector.error ", selector.error, "; allowed: one of them, and 0 for the other");
}

/// The td_selector_kind of this name, in which '-' may stand for '_'; -1: there is none.
inline std::int32_t selector_kind_named(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  const auto* found = std::find(kSelectorKinds.begin(), kSelectorKinds.end(), name);
  return found == kSelectorKinds.end() ? -1 : static_cast<std::int32_t>(found - kSelectorKinds.begin());
}

template <std::size_t N>
std::string listed(const std::array<const char*, N>& names) {
  std::string list;
  for (const char* name : names) list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

/// Reads `field`, if it is there, into `selector`. Throws Error(invalid_argument).
inline void read_selector_field(Fields& fields, const SelectorField& field, td_selector& selector) {
  if (field.form == SelectorField::Form::number) {
    std::visit([&](auto value) { fields.read(field.name, selector.*value); }, field.value);
    return;
  }
  std::int32_t& value = selector.*std::get<std::int32_t td_selector::*>(field.value);
  if (field.form == SelectorField::Form::flag) {
    bool flag = value != 0;
    fields.read(field.name, flag);
    value = flag ? 1 : 0;
    return;
  }
  std::string name = kLshPlaneNames.at(static_cast<std::size_t>(value));
  fields.read(field.name, name);
  const auto* found = std::find(kLshPlaneNames.begin(), kLshPlaneNames.end(), name);
  TANDEM_CHECK(found != kLshPlaneNames.end(), invalid_argument, "selector.", field.name, " is '", name,
               "'; allowed: ", listed(kLshPlaneNames));
  value = static_cast<std::int32_t>(found - kLshPlaneNames.begin());
}

/// Reads the kind and its fields; those that are missing stay as they are. Throws Error(invalid_argument) for unknown
/// kinds and fields and for wrong types; ranges are the library's to check.
inline void read_selector(const nlohmann::json& object, td_selector& selector) {
  Fields fields(object, "selector");
  std::string kind = kSelectorKinds.at(static_cast<std::size_t>(selector.kind));
  fields.read("kind", kind);
  selector.kind = selector_kind_named(kind);
  TANDEM_CHECK(selector.kind >= 0, invalid_argument, "selector.kind is '", kind,
               "'; allowed: ", listed(kSelectorKinds));
  for (const SelectorField& field : kSelectorFields) {
    if (field.is_of(selector.kind)) read_selector_field(fields, field, selector);
  }
  fields.reject_others();
}

/// {"kind": "lsh", "lsh_bits": 10, ..}: the fields that its kind has.
template <typename Json>
Json selector_to_json(const td_selector& selector) {
  Json object = {{"kind", kSelectorKinds.at(static_cast<std::size_t>(selector.kind))}};
  for (const SelectorField& field : kSelectorFields) {
    if (!field.is_of(selector.kind)) continue;
    std::visit(
        [&](auto value) {
          if (field.form == SelectorField::Form::number) {
            object[field.name] = selector.*value;
          } else if (field.form == SelectorField::Form::flag) {
            object[field.name] = selector.*value != 0;
          } else {
            object[field.name] = kLshPlaneNames.at(static_cast<std::size_t>(selector.*value));
          }
        },
        field.value);
  }
  return object;
}

}  // namespace tandem
