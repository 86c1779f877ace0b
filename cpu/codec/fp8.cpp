#include "cpu/codec/fp8.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace tandem::cpu {
namespace {

constexpr int kFractionBits = 3;
constexpr int kLeastExponent = -6;  // of a normal number

}  // namespace

std::uint8_t f32_to_fp8(float value) noexcept {
  assert(std::abs(value) <= kLargestFp8);
  const float magnitude = std::abs(value);
  const int exponent = magnitude == 0.f ? kLeastExponent : std::max(std::ilogb(magnitude), kLeastExponent);
  const auto steps = static_cast<int>(std::lrint(std::ldexp(magnitude, kFractionBits - exponent)));
  // A fraction that rounds up to the next power of two carries into the exponent, as the bits do.
  const int bits = steps + ((exponent - kLeastExponent) << kFractionBits);
  return static_cast<std::uint8_t>(bits | (std::signbit(value) ? 0x80 : 0));
}

float fp8_to_f32(std::uint8_t bits) noexcept {
  const int biased = bits >> kFractionBits & 15, fraction = bits & 7;
  const float magnitude =
      biased == 0 ? std::ldexp(static_cast<float>(fraction), kLeastExponent - kFractionBits)
                  : std::ldexp(static_cast<float>(fraction + 8), biased - 1 + kLeastExponent - kFractionBits);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

}  // namespace tandem::cpu
