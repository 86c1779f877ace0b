#pragma once

#include <cstdint>

namespace tandem::cpu {

/// e4m3: a sign, 4 bits of exponent with bias 7, 3 of fraction; subnormal below 2^-6, multiples of 2^-9. The largest
/// number is 448; what would be above it is NaN, and there are no infinities. Source: Micikevicius et al.,
/// arXiv:2209.05433.
inline constexpr float kLargestFp8 = 448.f;

/// Rounds to nearest even. |value| is at most kLargestFp8.
std::uint8_t f32_to_fp8(float value) noexcept;

float fp8_to_f32(std::uint8_t bits) noexcept;

}  // namespace tandem::cpu
