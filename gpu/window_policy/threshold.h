#pragma once

#include <cstdint>

#include "gpu/window_policy/kept_tokens.h"

namespace tandem::gpu {

/// Recents with which models are trained that decide on a token's eviction when it enters and evict it with a delay:
/// the local_tokens to choose with Threshold. Source: DMS, Lancucki et al., arXiv:2506.05345.
inline constexpr std::int32_t kDelayTokens = 128;

/// DMS-style: a token whose score is at least `threshold` is kept when it leaves the recents, any other leaves. Heads
/// keep as many as they find, up to a cap; beyond it, the lowest scores leave.
struct Threshold {
  float threshold = 0.f;                       ///< finite; of attention, at least 0
  std::int32_t max_kept = 4096;                ///< for each KV head
  ScoreSource scores = ScoreSource::external;  ///< attention or external

  friend bool operator==(const Threshold&, const Threshold&) = default;
};
void validate(const Threshold& policy);  ///< throws Error(invalid_argument) naming the field and the value
KeepRule keep_rule(const Threshold& policy) noexcept;

}  // namespace tandem::gpu
