#pragma once

#include <cstdint>

namespace tandem::cpu {

/// Tokens of a block, and tokens that share outlier channels.
inline constexpr int kQjlBlockRows = 64;
inline constexpr int kQjlGroupRows = 32;
/// Sign bits of a token are words of 32, and those of 16 tokens lie side by side, the first of each before the second:
/// kernels look at the same bits of 16 tokens at once.
inline constexpr int kQjlWordRows = 16;
inline constexpr int kQjlWordBytes = 4;
/// Of a prepared query, for each column of its sketch.
inline constexpr int kQjlPreparedFloats = 4;
/// Of one part's norms of a block: 16 bits each. They are those of an fp32 that follow its sign, 8 of the exponent and
/// 8 of the fraction, like scales of uniform_group.h, but rounded to nearest: every norm of keys below kMaxMagnitude
/// fits, and is off by at most 2^-9 of itself.
inline constexpr std::int64_t kQjlNormBytes = kQjlBlockRows * std::int64_t{sizeof(std::uint16_t)};

}  // namespace tandem::cpu
