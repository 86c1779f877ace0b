#include "tools/tandem/policy_text.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/policy_json.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"

namespace tandem::cli {
namespace {

[[noreturn]] void refuse(const std::string& field, const std::string& text) {
  throw UsageError(not_allowed(field, text, policy_forms()));
}

std::int32_t kept_of(const std::string& field, const std::string& text, const std::string& number) {
  const auto kept = parse_or<std::int32_t>(number, 0);
  if (kept < 1) refuse(field, text);
  return kept;
}

}  // namespace

bool PolicyChoice::scores_attention() const noexcept {
  return policy.kind == TD_POLICY_HEAVY_HITTERS ||
         (policy.kind == TD_POLICY_THRESHOLD && policy.scores == TD_SCORES_ATTENTION);
}

PolicyChoice parse_policy(const std::string& field, const std::string& text) {
  PolicyChoice choice{};
  TD_INIT(choice.policy);
  const auto colon = std::min(text.find(':'), text.size());
  const auto name = text.substr(0, colon);
  const auto knobs = colon < text.size() ? split_list(text.substr(colon + 1)) : std::vector<std::string>{};
  if (name == "latest" && colon == text.size()) {
    choice.policy.kind = TD_POLICY_LATEST;
  } else if (name == "streaming" && colon == text.size()) {
    choice.policy.kind = TD_POLICY_LATEST;
    choice.policy.compact_sinks = 1;
    choice.without_host = true;
  } else if (name == "h2o" && knobs.size() == 1) {
    choice.policy.kind = TD_POLICY_HEAVY_HITTERS;
    choice.policy.kept_tokens = kept_of(field, text, knobs[0]);
  } else if (name == "threshold" && knobs.size() == 2) {
    choice.policy.kind = TD_POLICY_THRESHOLD;
    choice.policy.kept_tokens = kept_of(field, text, knobs[0]);
    choice.policy.threshold = parse_or(knobs[1], std::numeric_limits<double>::quiet_NaN());
    if (!std::isfinite(choice.policy.threshold)) refuse(field, text);
  } else if (name == "dmc" && colon == text.size()) {
    choice.policy.kind = TD_POLICY_DMC;
    choice.policy.decisions = TD_DECISIONS_LAST_NEURON;
  } else {
    refuse(field, text);
  }
  return choice;
}

std::string policy_forms() { return "latest, streaming, h2o:K, threshold:K,T, dmc"; }

Json to_json(const td_window_policy& policy) { return policy_to_json<Json>(policy); }

}  // namespace tandem::cli
