#include "gpu/window_policy/heavy_hitters.h"

#include "runtime/base/error.h"

namespace tandem::gpu {

void validate(const HeavyHitters& policy) {
  TANDEM_CHECK(policy.kept_tokens >= 1 && policy.kept_tokens <= kMaxKeptTokens, invalid_argument, "kept_tokens is ",
               policy.kept_tokens, "; allowed: 1 to ", kMaxKeptTokens);
}

KeepRule keep_rule(const HeavyHitters& policy) noexcept {
  return {policy.kept_tokens, 0.f, ScoreSource::attention};  // no attention is less than 0: every token is eligible
}

}  // namespace tandem::gpu
