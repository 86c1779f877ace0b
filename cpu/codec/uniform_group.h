#pragma once

#include <cstdint>

namespace tandem::cpu {

/// What the codes of a group stand for: minimum + code * scale, code < 2^bits.
///
/// Both take 2 bytes and have the range of fp32, so that nothing overflows and a group times a power of two has the
/// same codes. The minimum is bf16, rounded down. The scale is (largest - minimum) / (2^bits - 1), rounded up to fp32
/// without its sign and the last 15 bits of its fraction. Every element thus lies between two codes, and the nearest is
/// off by at most
///
///   scale / 2 <= (1 + 2^-8) (largest - least + 2^-7 |least|) / (2^bits - 1) / 2
///
/// up to rounding to fp32 and 2^-133, the smallest step of bf16. Where the least element is a bf16 number, as all of a
/// bf16 row are, it comes back exactly, and so does a constant group, whose scale is 0 and whose codes are 0.
struct UniformGroup {
  std::uint16_t scale = 0;
  std::uint16_t minimum = 0;
};

/// Of elements from `least` to `largest`, finite.
UniformGroup uniform_group(float least, float largest, int bits) noexcept;

float scale_of(UniformGroup group) noexcept;
float minimum_of(UniformGroup group) noexcept;

/// The nearest code, ties to even.
int uniform_code(UniformGroup group, int bits, float x) noexcept;
/// Rounded once.
float uniform_value(UniformGroup group, int code) noexcept;

}  // namespace tandem::cpu
