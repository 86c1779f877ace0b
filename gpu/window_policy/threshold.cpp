#include "gpu/window_policy/threshold.h"

#include <cmath>

#include "runtime/base/error.h"

namespace tandem::gpu {

void validate(const Threshold& policy) {
  TANDEM_CHECK(policy.scores != ScoreSource::none, invalid_argument,
               "scores is none; a threshold needs a source: attention or external");
  TANDEM_CHECK(std::isfinite(policy.threshold), invalid_argument, "threshold is ", policy.threshold,
               "; allowed: finite values");
  TANDEM_CHECK(policy.scores == ScoreSource::external || policy.threshold >= 0, invalid_argument, "threshold is ",
               policy.threshold, "; allowed for scores from attention: from 0");
  TANDEM_CHECK(policy.max_kept >= 1 && policy.max_kept <= kMaxKeptTokens, invalid_argument, "kept_tokens is ",
               policy.max_kept, "; allowed: 1 to ", kMaxKeptTokens);
}

KeepRule keep_rule(const Threshold& policy) noexcept { return {policy.max_kept, policy.threshold, policy.scores}; }

}  // namespace tandem::gpu
