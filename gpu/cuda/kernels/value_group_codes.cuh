#pragma once

#include "gpu/cuda/kernels/rounding.cuh"
#include "gpu/cuda/kernels/value_sums.cuh"

// V in groups of 32 elements of 2 bits, coded and decoded to the bits of cpu/codec/value_groups.h.

namespace tandem::gpu::cuda {

/// As UniformGroup of cpu/codec/uniform_group.h.
struct GroupRange {
  std::uint16_t scale;
  std::uint16_t minimum;
};

/// As uniform_group() of 2 bits.
__device__ inline GroupRange group_range(float least, float largest) {
  const unsigned bits = __float_as_uint(least);
  GroupRange side;
  side.minimum = static_cast<std::uint16_t>((bits >> 16) + ((bits >> 31) != 0 && (bits & 0xffffu) != 0 ? 1u : 0u));
  const double step = (static_cast<double>(largest) - static_cast<double>(group_minimum(side.minimum))) / 3.0;
  auto rounded = static_cast<float>(step);
  if (static_cast<double>(rounded) < step) rounded = __uint_as_float(__float_as_uint(rounded) + 1u);
  side.scale = static_cast<std::uint16_t>((__float_as_uint(rounded) + 0x7fffu) >> 15);
  return side;
}

/// As uniform_code() of 2 bits.
__device__ inline unsigned group_code(const GroupRange& side, float x) {
  if (side.scale == 0) return 0;
  const double steps = (static_cast<double>(x) - static_cast<double>(group_minimum(side.minimum))) /
                       static_cast<double>(group_scale(side.scale));
  return static_cast<unsigned>(rint(fmin(fmax(steps, 0.0), 3.0)));
}

/// Encodes the (up to) two groups of one row that share 16 bytes of codes: elements from 64 * chunk on.
__device__ inline void encode_value_chunk(const cpu::BlockFormat& format, const float* v, int row, int chunk,
                                          std::byte* block) {
  unsigned words[4] = {};  // byte l of the 16 has elements l, 16 + l, 32 + l and 48 + l, the first lowest
  auto* sides = reinterpret_cast<std::uint16_t*>(block + format.v_side);
  for (int half = 0; half < 2; ++half) {
    const int group = 2 * chunk + half;
    if (group >= format.dim_v / kGroupElements) break;
    const float* elements = v + static_cast<std::int64_t>(row) * format.padded_v + group * kGroupElements;
    float least = elements[0], largest = elements[0];
    for (int i = 1; i < kGroupElements; ++i) {
      if (elements[i] < least) least = elements[i];
      if (elements[i] > largest) largest = elements[i];
    }
    const GroupRange side = group_range(least, largest);
    sides[2 * group * kTileTokens + row] = side.scale;
    sides[(2 * group + 1) * kTileTokens + row] = side.minimum;
#pragma unroll
    for (int i = 0; i < kGroupElements; ++i)
      words[i % 16 / 4] |= group_code(side, elements[i]) << (i % 4 * 8 + (half * 2 + i / 16) * 2);
  }
  auto* codes = reinterpret_cast<unsigned*>(block + format.v_codes + row * format.v_stride + chunk * 16);
#pragma unroll
  for (int w = 0; w < 4; ++w) codes[w] = words[w];
}

/// One element of a row, as uniform_value(): a product of 13 bits is exact.
__device__ inline float decode_value_element(const cpu::BlockFormat& format, const std::byte* block, int row, int d) {
  if (d >= format.dim_v) return 0.f;
  const auto* sides = reinterpret_cast<const std::uint16_t*>(block + format.v_side);
  const int group = d / kGroupElements;
  const auto codes = static_cast<unsigned>(block[format.v_codes + row * format.v_stride + d / 64 * 16 + d % 16]);
  const auto code = static_cast<float>(codes >> (d % 64 / 16 * 2) & 3u);
  return fmaf(code, group_scale(sides[2 * group * kTileTokens + row]),
              group_minimum(sides[(2 * group + 1) * kTileTokens + row]));
}

}  // namespace tandem::gpu::cuda
