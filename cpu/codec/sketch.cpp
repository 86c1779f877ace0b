#include "cpu/codec/sketch.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace tandem::cpu {
namespace {

// Widths of the uniform quantiser with 2^bits levels that loses least of a standard normal value (Max 1960).
constexpr float kNormalStep[] = {0.f, 1.596f, 0.9957f, 0.586f, 0.335f};

}  // namespace

std::vector<BitAllocation> sketch_menu(int head_dim, int bits_per_dim) {
  const int dims = (head_dim + 31) / 32 * 32;
  const int half = dims / 2;
  const int quarter = dims / 4;
  const int eighth = dims / 8;
  if (bits_per_dim == 1) {
    return {{{dims, 1}},
            {{half, 2}},
            {{quarter, 2}, {half, 1}},
            {{quarter, 3}, {quarter, 1}},
            {{eighth, 4}, {eighth, 2}, {quarter, 1}}};
  }
  return {{{dims, 2}}, {{half, 4}}, {{quarter, 4}, {quarter, 3}, {quarter, 1}}, {{half, 3}, {half, 1}}};
}

SketchFormat::SketchFormat(const BitAllocation& allocation, const std::vector<float>& group_rms, float scale)
    : groups(allocation), factor_scale(scale) {
  assert(group_rms.size() == groups.size());
  int bits = 0;
  for (const BitGroup& group : groups) {
    num_dims += group.dims;
    bits += group.dims * group.bits;
  }
  code_bytes = bits / 8;
  padded_dims = padded(num_dims);
  steps.assign(static_cast<std::size_t>(padded_dims), 0.f);
  inverse_steps = steps;
  levels.assign(static_cast<std::size_t>(padded_dims), 0.f);
  const float unit = 1.f / std::sqrt(static_cast<float>(num_dims));  // rms of a coordinate of z / |z|
  std::size_t dim = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (int i = 0; i < groups[g].dims; ++i, ++dim) {
      steps[dim] = kNormalStep[groups[g].bits] * group_rms[g] * unit;
      inverse_steps[dim] = steps[dim] > 0.f ? 1.f / steps[dim] : 0.f;
      levels[dim] = static_cast<float>(1 << (groups[g].bits - 1));
    }
  }
}

void SketchFormat::bit_weights(const float* query, float* weights) const noexcept {
  const float* step = steps.data();
  for (const BitGroup& group : groups) {
    for (int plane = group.bits - 1; plane >= 0; --plane) {
      const float half_weight = 0.5f * static_cast<float>(1 << plane);  // c + 1/2 = sum over planes of +-2^(plane - 1)
      for (int i = 0; i < group.dims; ++i) *weights++ = half_weight * step[i] * query[i];
    }
    step += group.dims;
    query += group.dims;
  }
}

}  // namespace tandem::cpu
