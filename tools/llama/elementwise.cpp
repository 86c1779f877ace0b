#include "tools/llama/elementwise.h"

#include <bit>
#include <cmath>

#include "runtime/base/dtype.h"

namespace tandem::llama {
namespace {

/// Eight running sums: a compiler may not reorder one sum of floats, so it would not vectorise it.
float sum_of_squares(const float* x, std::int64_t count) {
  constexpr std::int64_t kLanes = 8;
  float sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += x[i + lane] * x[i + lane];
  }
  for (; i < count; ++i) sums[0] += x[i] * x[i];
  float total = 0.f;
  for (const float sum : sums) total += sum;
  return total;
}

/// e^x for x <= 88 (e^-87 below -87), without a call or a branch, so that loops over it vectorise.
/// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts keeps r exact. Polynomial: Cephes, expf.
inline float vector_exp(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low mantissa bits
  x = x < -87.f ? -87.f : x;
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = p * r * r + r + 1.f;
  const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) + 127u) << 23;
  return mantissa * std::bit_cast<float>(exponent);
}

}  // namespace

void rms_norm(const float* source, const float* weight, float eps, float* target, std::int64_t rows, std::int64_t dim) {
  for (std::int64_t row = 0; row < rows; ++row, source += dim, target += dim) {
    const float mean = sum_of_squares(source, dim) / static_cast<float>(dim);
    const float factor = 1.f / std::sqrt(mean + eps);
    for (std::int64_t i = 0; i < dim; ++i) target[i] = source[i] * factor * weight[i];
  }
}

void swiglu(float* gate, const float* up, std::int64_t count) {
  constexpr float kLowest = -60.f;  // silu is within 1e-24 of 0 from here down, and quotients do not get subnormal
  for (std::int64_t i = 0; i < count; ++i) {
    const float x = gate[i] < kLowest ? kLowest : gate[i];
    gate[i] = x / (1.f + vector_exp(-x)) * up[i];
  }
}

void add(float* target, const float* source, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) target[i] += source[i];
}

void round_to_f16(float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = f16_to_f32(f32_to_f16(values[i]));
}

void compute_angles(std::int64_t first, std::int64_t tokens, std::int64_t head_dim, float theta, RopeAngles& angles) {
  const std::int64_t half = head_dim / 2;
  angles.cosine.resize(static_cast<std::size_t>(tokens * half));
  angles.sine.resize(static_cast<std::size_t>(tokens * half));
  for (std::int64_t pair = 0; pair < half; ++pair) {
    const double exponent = -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim);
    const auto frequency = static_cast<float>(std::pow(static_cast<double>(theta), exponent));
    for (std::int64_t token = 0; token < tokens; ++token) {
      const float angle = static_cast<float>(first + token) * frequency;
      const auto i = static_cast<std::size_t>(token * half + pair);
      angles.cosine[i] = std::cos(angle);
      angles.sine[i] = std::sin(angle);
    }
  }
}

void apply_rope(const RopeAngles& angles, float* x, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  for (std::int64_t row = 0; row < tokens * heads; ++row) {
    const float* cosine = angles.cosine.data() + row / heads * half;
    const float* sine = angles.sine.data() + row / heads * half;
    float* low = x + row * head_dim;
    float* high = low + half;
    for (std::int64_t i = 0; i < half; ++i) {
      const float a = low[i];
      const float b = high[i];
      low[i] = a * cosine[i] - b * sine[i];
      high[i] = b * cosine[i] + a * sine[i];
    }
  }
}

}  // namespace tandem::llama
