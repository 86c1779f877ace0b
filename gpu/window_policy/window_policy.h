#pragma once

#include <cstdint>
#include <variant>

#include "gpu/window_policy/heavy_hitters.h"
#include "gpu/window_policy/streaming.h"
#include "gpu/window_policy/threshold.h"

namespace tandem::gpu {

/// Which tokens stay in a window beside its sinks and recents. KeptTokens holds the state of one KV head.
using WindowPolicy = std::variant<Streaming, HeavyHitters, Threshold>;

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
inline void validate(const WindowPolicy& policy) {
  std::visit([](const auto& p) { validate(p); }, policy);
}
inline KeepRule keep_rule(const WindowPolicy& policy) noexcept {
  return std::visit([](const auto& p) { return keep_rule(p); }, policy);
}
/// The state of one KV head, nothing in it yet: see KeptTokens. Throws as validate().
inline KeptTokens kept_tokens(const WindowPolicy& policy, std::int64_t sink_tokens, std::int32_t max_recent) {
  validate(policy);
  return {keep_rule(policy), sink_tokens, max_recent};
}

}  // namespace tandem::gpu
