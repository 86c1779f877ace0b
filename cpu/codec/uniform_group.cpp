#include "cpu/codec/uniform_group.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "runtime/base/dtype.h"

namespace tandem::cpu {
namespace {

constexpr int kScaleShift = 15;

std::uint16_t bf16_at_most(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const bool away_from_zero = std::signbit(x) && (bits & 0xffffu) != 0;
  return static_cast<std::uint16_t>((bits >> 16) + (away_from_zero ? 1 : 0));
}

std::uint16_t scale_at_least(double x) noexcept {
  auto rounded = static_cast<float>(x);
  if (static_cast<double>(rounded) < x) rounded = std::nextafter(rounded, std::numeric_limits<float>::infinity());
  const auto bits = std::bit_cast<std::uint32_t>(rounded);
  return static_cast<std::uint16_t>((bits + ((1u << kScaleShift) - 1)) >> kScaleShift);
}

}  // namespace

UniformGroup uniform_group(float least, float largest, int bits) noexcept {
  UniformGroup group;
  group.minimum = bf16_at_most(least);
  const double range = static_cast<double>(largest) - static_cast<double>(minimum_of(group));
  group.scale = scale_at_least(range / ((1 << bits) - 1));
  return group;
}

float scale_of(UniformGroup group) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(group.scale) << kScaleShift);
}

float minimum_of(UniformGroup group) noexcept { return bf16_to_f32(group.minimum); }

int uniform_code(UniformGroup group, int bits, float x) noexcept {
  if (group.scale == 0) return 0;
  const double steps =
      (static_cast<double>(x) - static_cast<double>(minimum_of(group))) / static_cast<double>(scale_of(group));
  return static_cast<int>(std::lrint(std::clamp(steps, 0.0, static_cast<double>((1 << bits) - 1))));
}

float uniform_value(UniformGroup group, int code) noexcept {
  // A code and a scale have 13 bits together: their product is exact.
  return minimum_of(group) + static_cast<float>(code) * scale_of(group);
}

}  // namespace tandem::cpu
