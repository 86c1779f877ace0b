#pragma once

#include <algorithm>
#include <cstdint>

#include "gpu/window_policy/kept_tokens.h"

namespace tandem::gpu {

/// StreamingLLM: a window of sinks and recents that keeps nothing else. Source: Xiao et al., arXiv:2309.17453.
struct Streaming {
  friend bool operator==(const Streaming&, const Streaming&) = default;
};
inline void validate(const Streaming&) noexcept {}
inline KeepRule keep_rule(const Streaming&) noexcept { return {}; }

/// Positions by which a query is turned back before it meets the keys of the sinks.
///
/// StreamingLLM numbers the tokens of its cache by where they lie in it, not in the text: with recents from
/// `local_begin` on, the sinks are local_begin - sinks positions closer. Rotary scores depend on differences of
/// positions alone, so keys keep the rotation that they have: the query at position t meets recents as rotated at t,
/// and sinks as rotated at t - sink_rotation(). That is 0, and attention dense, while nothing has left.
constexpr std::int64_t sink_rotation(std::int64_t local_begin, std::int64_t sinks) noexcept {
  return std::max<std::int64_t>(local_begin - sinks, 0);
}

}  // namespace tandem::gpu
