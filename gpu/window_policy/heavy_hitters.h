#pragma once

#include <cstdint>

#include "gpu/window_policy/kept_tokens.h"

namespace tandem::gpu {

/// H2O: beyond the recents, the tokens that have drawn most attention are kept, for each KV head.
///
/// A token's score is the sum of its softmax probabilities within the window, over all queries since it entered, its
/// own among them, and over the query heads of its group. Tokens may leave the recents one at a time or many at once:
/// the largest scores stay either way, and where as many leave as enter, one at a time is the rule of the paper.
/// Source: Zhang et al., arXiv:2306.14048, algorithm 1.
struct HeavyHitters {
  std::int32_t kept_tokens = 256;

  friend bool operator==(const HeavyHitters&, const HeavyHitters&) = default;
};
void validate(const HeavyHitters& policy);  ///< throws Error(invalid_argument) naming the field and the value
KeepRule keep_rule(const HeavyHitters& policy) noexcept;

}  // namespace tandem::gpu
