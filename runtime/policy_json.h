#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include <nlohmann/json.hpp>

#include "runtime/codec_json.h"
#include "runtime/json_fields.h"
#include "tandem/tandem.h"

namespace tandem {

// How td_window_policy reads as JSON, for the library and for the command line: the one list of its kinds and fields.

inline constexpr std::array<const char*, 4> kPolicyKinds = {"latest", "heavy_hitters", "threshold",
                                                            "dmc"};                     // by td_policy_kind
inline constexpr std::array<const char*, 2> kScoreNames = {"attention", "given"};       // by td_score_source
inline constexpr std::array<const char*, 2> kDecisionNames = {"given", "last_neuron"};  // by td_decision_source

struct PolicyField {
  enum class Form : std::uint8_t { number, flag, scores, decisions };

  const char* name;
  Form form;
  std::variant<double td_window_policy::*, std::int32_t td_window_policy::*> value;
  unsigned kinds;  ///< that have it, 1 << td_policy_kind each

  [[nodiscard]] bool is_of(std::int32_t kind) const noexcept { return ((kinds >> kind) & 1u) != 0; }
};

inline constexpr PolicyField kPolicyFields[] = {
    {"kept_tokens", PolicyField::Form::number, &td_window_policy::kept_tokens,
     1u << TD_POLICY_HEAVY_HITTERS | 1u << TD_POLICY_THRESHOLD},
    {"page_tokens", PolicyField::Form::number, &td_window_policy::page_tokens,
     1u << TD_POLICY_HEAVY_HITTERS | 1u << TD_POLICY_THRESHOLD},
    {"threshold", PolicyField::Form::number, &td_window_policy::threshold, 1u << TD_POLICY_THRESHOLD},
    {"scores", PolicyField::Form::scores, &td_window_policy::scores, 1u << TD_POLICY_THRESHOLD},
    {"decisions", PolicyField::Form::decisions, &td_window_policy::decisions, 1u << TD_POLICY_DMC},
    {"merge_window", PolicyField::Form::number, &td_window_policy::merge_window, 1u << TD_POLICY_DMC},
    {"common_length", PolicyField::Form::flag, &td_window_policy::common_length, 1u << TD_POLICY_DMC},
    {"compact_sinks", PolicyField::Form::flag, &td_window_policy::compact_sinks, 1u << TD_POLICY_LATEST},
};

/// Reads `field`, if it is there, into `policy`. Throws Error(invalid_argument).
inline void read_policy_field(Fields& fields, const PolicyField& field, td_window_policy& policy) {
  if (field.form == PolicyField::Form::number) {
    std::visit([&](auto value) { fields.read(field.name, policy.*value); }, field.value);
    return;
  }
  std::int32_t& value = policy.*std::get<std::int32_t td_window_policy::*>(field.value);
  if (field.form == PolicyField::Form::flag) {
    bool flag = value != 0;
    fields.read(field.name, flag);
    value = flag ? 1 : 0;
    return;
  }
  const auto& names = field.form == PolicyField::Form::scores ? kScoreNames : kDecisionNames;
  std::string name = names.at(static_cast<std::size_t>(value));
  fields.read(field.name, name);
  value = index_of((std::string("window_policy.") + field.name).c_str(), name, names);
}

/// Reads the kind and its fields; those that are missing are defaults. Throws Error(invalid_argument) for unknown kinds
/// and fields and for wrong types; ranges are the library's to check.
inline td_window_policy read_policy(const nlohmann::json& object) {
  td_window_policy policy;
  TD_INIT(policy);
  Fields fields(object, "window_policy");
  std::string kind = kPolicyKinds[TD_POLICY_LATEST];
  fields.read("kind", kind);
  policy.kind = index_of("window_policy.kind", kind, kPolicyKinds);
  for (const PolicyField& field : kPolicyFields) {
    if (field.is_of(policy.kind)) read_policy_field(fields, field, policy);
  }
  fields.reject_others();
  return policy;
}

/// {"kind": "heavy_hitters", "kept_tokens": 256, ..}: the fields that its kind has.
template <typename Json>
Json policy_to_json(const td_window_policy& policy) {
  Json object = {{"kind", kPolicyKinds.at(static_cast<std::size_t>(policy.kind))}};
  for (const PolicyField& field : kPolicyFields) {
    if (!field.is_of(policy.kind)) continue;
    std::visit(
        [&](auto value) {
          const auto number = policy.*value;
          switch (field.form) {
            case PolicyField::Form::number:
              object[field.name] = number;
              break;
            case PolicyField::Form::flag:
              object[field.name] = number != 0;
              break;
            case PolicyField::Form::scores:
              object[field.name] = kScoreNames.at(static_cast<std::size_t>(number));
              break;
            case PolicyField::Form::decisions:
              object[field.name] = kDecisionNames.at(static_cast<std::size_t>(number));
              break;
          }
        },
        field.value);
  }
  return object;
}

}  // namespace tandem
