#pragma once

#include "gpu/cuda/kernels/nuq_layout.cuh"
#include "gpu/cuda/kernels/rounding.cuh"

// Blocks of codec nuq, encoded and decoded as cpu/codec/nuq.cpp does. Warps take tokens where elements are compared
// with each other, and threads the lanes of units where codes are packed.

namespace tandem::gpu::cuda {

inline constexpr int kNuqCodeThreads = 256;
inline constexpr int kNuqCodeWarps = kNuqCodeThreads / 32;

/// K of one token and pair before RoPE.
struct KeyPair {
  float channels[2];
};
__device__ __forceinline__ KeyPair key_before_rope(const cpu::BlockFormat& f, const EncodeItem& item, int row,
                                                   int pair) {
  const auto r = rotation<double>(f.rope_turns[pair] * static_cast<std::uint64_t>(item.first_position + row));
  const PairElements elements = pair_elements(f, pair);
  const double a = item.k[row * f.padded_k + elements.first], b = item.k[row * f.padded_k + elements.second];
  return {{static_cast<float>(rounded_product(a, r.cosine) + rounded_product(b, r.sine)),
           static_cast<float>(rounded_product(b, r.cosine) - rounded_product(a, r.sine))}};
}

/// The code of the level nearest to x, of ascending level(code).
template <typename Level>
__device__ inline unsigned nearest_code(int bits, float x, const Level& level) {
  int code = 0;
  for (int step = 1 << bits >> 1; step > 0; step >>= 1) {
    const int next = code + step;
    code = level(next - 1) + level(next) < 2.f * x ? next : code;
  }
  return static_cast<unsigned>(code);
}

__device__ inline unsigned packed_residual(float residual, int place) {
  unsigned bits = __float_as_uint(residual);
  bits += cpu::kNuqPlaceMask / 2 + (bits >> 10 & 1u);
  return (bits & ~cpu::kNuqPlaceMask) | static_cast<unsigned>(place);
}

/// What the largest of some numbers of a warp is.
__device__ inline unsigned long long warp_largest(unsigned long long x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const unsigned long long other = __shfl_xor_sync(kWholeWarp, x, offset, 32);
    x = other > x ? other : x;
  }
  return x;
}

/// An outlier as a number, of which the larger comes first: the residual's magnitude, the complement of the place, and
/// the residual's sign. 0 is none.
__device__ inline unsigned long long ranked_outlier(float residual, int place) {
  const unsigned bits = __float_as_uint(residual);
  return static_cast<unsigned long long>(bits & 0x7fffffffu) << 32 | (0x7fffffffu - static_cast<unsigned>(place)) << 1 |
         bits >> 31;
}
__device__ inline unsigned residual_of_ranked(unsigned long long ranked) {
  if (ranked == 0) return 0;
  const auto low = static_cast<unsigned>(ranked);
  const float residual = __uint_as_float(static_cast<unsigned>(ranked >> 32) | low << 31);
  return packed_residual(residual, static_cast<int>(0x7fffffffu - (low >> 1)));
}

/// What one warp compares: of 256 channels, lane by lane.
struct RankedOutliers {
  static constexpr int kOfLane = 8;
  unsigned long long of[kOfLane][32];
};

/// A token's outliers of K, the largest residuals first. By a warp, each lane of which has places of its own in
/// `ranked`.
__device__ inline void encode_key_outliers(const cpu::BlockFormat& f, const EncodeItem& item, int row,
                                           RankedOutliers& ranked) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int i = 0; i < RankedOutliers::kOfLane / 2; ++i) {
    const int pair = lane + 32 * i;
    ranked.of[2 * i][lane] = ranked.of[2 * i + 1][lane] = 0;
    if (pair >= f.padded_k / 2) continue;
    const KeyPair key = key_before_rope(f, item, row, pair);
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int channel = 2 * pair + side;
      const float x = key.channels[side];
      const double deviation = fabs(static_cast<double>(x) - static_cast<double>(f.channel_offset[channel]));
      const float* levels = f.levels_k + channel * cpu::kNuqLevels;
      const unsigned code = nearest_code(f.bits, x, [levels](int c) { return levels[c]; });
      if (deviation > static_cast<double>(f.channel_scale[channel]))
        ranked.of[2 * i + side][lane] = ranked_outlier(x - levels[code], channel);
    }
  }
  auto* target = reinterpret_cast<unsigned*>(item.block + f.k_side) + row * f.outliers;
  unsigned long long last = ~0ull;
  for (int o = 0; o < f.outliers; ++o) {
    unsigned long long next = 0;
    for (int i = 0; i < RankedOutliers::kOfLane; ++i) {
      const unsigned long long other = ranked.of[i][lane];
      next = other < last && other > next ? other : next;
    }
    last = warp_largest(next);
    if (lane == 0) target[o] = residual_of_ranked(last);
  }
}

/// A token's range of V and its outliers, the extremes. By a warp.
__device__ __forceinline__ void encode_value_range(const cpu::BlockFormat& f, const EncodeItem& item, int row) {
  constexpr int kElementsOfLane = 8;  // of 256
  const int lane = static_cast<int>(threadIdx.x) % 32, apart = f.outliers_v / 2;
  const float* v = item.v + row * f.padded_v;
  unsigned long long keys[kElementsOfLane];  // in the order of elements, equal ones by place; 0: none
#pragma unroll
  for (int i = 0; i < kElementsOfLane; ++i) {
    const int d = lane + 32 * i;
    keys[i] = 0;
    if (d >= f.dim_v) continue;
    const unsigned bits = __float_as_uint(v[d] + 0.f);  // the zeros are equal
    const unsigned ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    keys[i] = static_cast<unsigned long long>(ordered) << 32 | static_cast<unsigned>(d);
  }
  int place = 0;  // of the lane's outlier
  unsigned long long low = 0, high = ~0ull;
  for (int o = 0; o <= apart; ++o) {
    unsigned long long above = 0, below = 0;  // of what is above `low`, the complement of the least
#pragma unroll
    for (int i = 0; i < kElementsOfLane; ++i) {
      if (keys[i] > low && ~keys[i] > above) above = ~keys[i];
      if (keys[i] < high && keys[i] > below) below = keys[i];
    }
    low = ~warp_largest(above);
    high = warp_largest(below);
    if (o < apart && lane == o) place = static_cast<int>(low & 0xffffffffu);
    if (o < apart && lane == apart + o) place = static_cast<int>(high & 0xffffffffu);
  }
  const double least = v[low & 0xffffffffu], most = v[high & 0xffffffffu];
  const auto offset = static_cast<float>((most + least) / 2), scale = static_cast<float>((most - least) / 2);
  auto* scales = reinterpret_cast<float*>(item.block + f.v_side);
  if (lane == 0) {
    scales[row] = scale;
    scales[cpu::kNuqBlockRows + row] = offset;
  }
  if (lane >= f.outliers_v) return;
  const auto level = [&](int code) { return fmaf(f.levels_v[code], scale, offset); };
  const float x = v[place];
  reinterpret_cast<unsigned*>(scales + 2 * cpu::kNuqBlockRows)[row * f.outliers_v + lane] =
      packed_residual(x - level(static_cast<int>(nearest_code(f.bits, x, level))), place);
}

/// A lane of a unit of K: two channels of four tokens. By one thread.
__device__ __forceinline__ void encode_key_lane(const cpu::BlockFormat& f, const EncodeItem& item, int pair, int lane) {
  unsigned codes = 0;
#pragma unroll 1
  for (int i = 0; i < cpu::kNuqFields / 2; ++i) {
    const KeyPair key = key_before_rope(f, item, i * cpu::kNuqLanes + lane, pair);
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const float* levels = f.levels_k + (2 * pair + side) * cpu::kNuqLevels;
      codes |= nearest_code(f.bits, key.channels[side], [levels](int code) { return levels[code]; })
               << 4 * (side * (cpu::kNuqFields / 2) + i);
    }
  }
  store_nuq_lane(codes, f.bits, item.block + f.k_codes + pair * cpu::kNuqLanes * f.bits + lane);
}

/// A lane of a unit of V: an element of eight tokens, whose ranges are in the block. By one thread.
__device__ __forceinline__ void encode_value_lane(const cpu::BlockFormat& f, const EncodeItem& item, int octet, int d) {
  const NuqValueSide side(f, item.block);
  unsigned codes = 0;
  for (int i = 0; i < cpu::kNuqFields && d < f.dim_v; ++i) {
    const int row = octet * cpu::kNuqFields + i;
    const float scale = side.scales[row], offset = side.offsets[row];
    codes |= nearest_code(f.bits, item.v[row * f.padded_v + d],
                          [&](int code) { return fmaf(f.levels_v[code], scale, offset); })
             << 4 * i;
  }
  store_nuq_lane(codes, f.bits,
                 item.block + f.v_codes + (octet * (f.padded_v / 16) + d / 16) * cpu::kNuqLanes * f.bits + d % 16);
}

__global__ void __launch_bounds__(kNuqCodeThreads)
    nuq_encode_keys(cpu::BlockFormat format, const EncodeItem* __restrict__ items) {
  const EncodeItem item = items[blockIdx.x];
  for (int i = static_cast<int>(threadIdx.x); i < format.padded_k / 2 * cpu::kNuqLanes; i += kNuqCodeThreads)
    encode_key_lane(format, item, i / cpu::kNuqLanes, i % cpu::kNuqLanes);
}

__global__ void __launch_bounds__(kNuqCodeThreads)
    nuq_encode_outliers(cpu::BlockFormat format, const EncodeItem* __restrict__ items) {
  struct Shared {
    RankedOutliers ranked[kNuqCodeWarps];
  };
  TANDEM_SHARED(Shared, shared);
  const EncodeItem item = items[blockIdx.x];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int row = warp; row < cpu::kNuqBlockRows; row += kNuqCodeWarps)
    encode_key_outliers(format, item, row, shared.ranked[warp]);
}

__global__ void __launch_bounds__(kNuqCodeThreads)
    nuq_encode_values(cpu::BlockFormat format, const EncodeItem* __restrict__ items) {
  const EncodeItem item = items[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x);
  for (int row = thread / 32; row < cpu::kNuqBlockRows; row += kNuqCodeWarps) encode_value_range(format, item, row);
  __syncthreads();
  for (int i = thread; i < cpu::kNuqBlockRows / cpu::kNuqFields * format.padded_v; i += kNuqCodeThreads)
    encode_value_lane(format, item, i / format.padded_v, i % format.padded_v);
}

/// Both elements of a pair of a decoded key.
__device__ inline void decode_key_pair(const cpu::BlockFormat& f, const DecodeItem& item, int index, int pair) {
  const int row = item.first + index;
  const std::byte* unit = item.block + f.k_codes + pair * cpu::kNuqLanes * f.bits + row % cpu::kNuqLanes;
  float channels[2];
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    const int code = nuq_code(unit, f.bits, side * (cpu::kNuqFields / 2) + row / cpu::kNuqLanes);
    channels[side] = f.levels_k[(2 * pair + side) * cpu::kNuqLevels + code];
  }
  for (int o = 0; o < f.outliers; ++o) {
    const unsigned word = key_residuals(f, item.block)[row * f.outliers + o];
    if (place_of(word) == 2 * pair) channels[0] += residual_of(word);
    if (place_of(word) == 2 * pair + 1) channels[1] += residual_of(word);
  }
  const auto r = rotation<double>(f.rope_turns[pair] * static_cast<std::uint64_t>(item.first_position + row));
  const PairElements elements = pair_elements(f, pair);
  const double a = channels[0], b = channels[1];
  float* key = item.k + static_cast<std::int64_t>(index) * f.padded_k;
  key[elements.first] = static_cast<float>(rounded_product(a, r.cosine) - rounded_product(b, r.sine));
  key[elements.second] = static_cast<float>(rounded_product(b, r.cosine) + rounded_product(a, r.sine));
}

__device__ inline float decode_value(const cpu::BlockFormat& f, const std::byte* block, int row, int d) {
  if (d >= f.dim_v) return 0.f;
  const NuqValueSide side(f, block);
  const std::byte* unit =
      block + f.v_codes + (row / cpu::kNuqFields * (f.padded_v / 16) + d / 16) * cpu::kNuqLanes * f.bits + d % 16;
  const int code = nuq_code(unit, f.bits, row % cpu::kNuqFields);
  float value = fmaf(f.levels_v[code], side.scales[row], side.offsets[row]);
  for (int o = 0; o < f.outliers_v; ++o) {
    const unsigned word = side.residuals[row * f.outliers_v + o];
    if (place_of(word) == d) value += residual_of(word);
  }
  return value;
}

__global__ void __launch_bounds__(kNuqCodeThreads)
    nuq_decode(cpu::BlockFormat format, const DecodeItem* __restrict__ items) {
  const DecodeItem item = items[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x), pairs = format.padded_k / 2;
  for (int i = thread; i < item.count * pairs; i += kNuqCodeThreads)
    decode_key_pair(format, item, i / pairs, i % pairs);
  for (int i = thread; i < item.count * format.padded_v; i += kNuqCodeThreads)
    item.v[i] = decode_value(format, item.block, item.first + i / format.padded_v, i % format.padded_v);
}

}  // namespace tandem::gpu::cuda
