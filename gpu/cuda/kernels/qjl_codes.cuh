#pragma once

#include "cpu/codec/qjl_layout.h"
#include "gpu/cuda/kernels/kivi_coding.cuh"
#include "gpu/cuda/kernels/rounding.cuh"
#include "gpu/cuda/kernels/value_sums.cuh"

// Blocks of QJL, encoded and decoded to the bits of cpu/codec/qjl.cpp.

namespace tandem::gpu::cuda {

inline constexpr int kQjlCodeThreads = 128;
inline constexpr int kQjlMostChannels = 256;

/// Of one group of tokens: channels in ascending order, those of the inlier part first.
struct QjlChannels {
  double squares[kQjlMostChannels];
  bool is_outlier[kQjlMostChannels];
  std::int16_t order[kQjlMostChannels];
};

/// Finds a group's outlier channels, `keys` (kQjlGroupRows, padded_k), and writes their numbers to `ids`. By all
/// threads.
__device__ inline void find_qjl_outliers(const cpu::BlockFormat& format, const float* keys, QjlChannels& channels,
                                         std::byte* ids) {
  const int thread = static_cast<int>(threadIdx.x), dim = format.dim_k;
  for (int c = thread; c < dim; c += kQjlCodeThreads) {
    double sum = 0;
    for (int t = 0; t < cpu::kQjlGroupRows; ++t) {
      const double x = keys[t * format.padded_k + c];
      sum += x * x;  // exact products: joined or not, the same
    }
    channels.squares[c] = sum;
  }
  __syncthreads();
  for (int c = thread; c < dim; c += kQjlCodeThreads) {
    int larger = 0;
    for (int other = 0; other < dim; ++other) {
      const double x = channels.squares[other], y = channels.squares[c];
      larger += x > y || (x == y && other < c) ? 1 : 0;
    }
    channels.is_outlier[c] = larger < format.outliers;
  }
  __syncthreads();
  for (int c = thread; c < dim; c += kQjlCodeThreads) {
    int before = 0;  // outliers
    for (int other = 0; other < c; ++other) before += channels.is_outlier[other] ? 1 : 0;
    const bool is_outlier = channels.is_outlier[c];
    channels.order[is_outlier ? dim - format.outliers + before : c - before] = static_cast<std::int16_t>(c);
    if (is_outlier) ids[before] = static_cast<std::byte>(c);
  }
  __syncthreads();
}

/// One part of a group's keys.
struct QjlPart {
  const std::int16_t* channels;
  int count;
  int bits;
  int first_bit;  ///< among a token's
};

__device__ inline QjlPart qjl_part(const cpu::BlockFormat& format, const QjlChannels& channels, bool outlier) {
  const int num_inliers = format.dim_k - format.outliers;
  if (outlier) return {channels.order + num_inliers, format.outliers, format.outlier_bits, format.sketch_bits};
  return {channels.order, num_inliers, format.sketch_bits, 0};
}

/// The words of a group's signs, a warp for each word and 8 tokens: lanes are columns.
__device__ inline void encode_qjl_signs(const cpu::BlockFormat& format, const float* keys, const QjlPart& part,
                                        std::byte* codes) {
  constexpr int kTokens = 8;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  constexpr int kRuns = cpu::kQjlGroupRows / kTokens;
  for (int i = warp; i < part.bits / 32 * kRuns; i += kQjlCodeThreads / 32) {
    const int word = i / kRuns, first = i % kRuns * kTokens;
    float sums[kTokens] = {};
    for (int c = 0; c < part.count; ++c) {
      const int channel = part.channels[c];
      const float direction = format.projection[channel * format.sketch_bits + word * 32 + lane];
#pragma unroll
      for (int t = 0; t < kTokens; ++t)
        sums[t] += rounded_product(keys[(first + t) * format.padded_k + channel], direction);
    }
    unsigned bits = 0;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const unsigned of_token = __ballot_sync(kWholeWarp, sums[t] > 0.f);
      if (lane == t) bits = of_token;
    }
    const int token = first + lane;
    if (lane < kTokens) {
      std::byte* words = codes + token / cpu::kQjlWordRows * cpu::kQjlWordRows * format.k_stride;
      reinterpret_cast<unsigned*>(words)[(part.first_bit / 32 + word) * cpu::kQjlWordRows + token % cpu::kQjlWordRows] =
          bits;
    }
  }
}

__device__ inline std::uint16_t qjl_norm(const float* key, const QjlPart& part) {
  double square = 0;
  for (int c = 0; c < part.count; ++c) {
    const double x = key[part.channels[c]];
    square += x * x;
  }
  return static_cast<std::uint16_t>((__float_as_uint(static_cast<float>(sqrt(square))) + 0x4000u) >> 15);
}

__device__ inline void fill_zero(std::byte* block, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kQjlCodeThreads) block[i] = std::byte{0};
}

/// Encodes K of blocks, and what no code fills; blockIdx.y is the group of tokens.
__global__ void __launch_bounds__(kQjlCodeThreads)
    qjl_encode_keys(cpu::BlockFormat format, const EncodeItem* __restrict__ items) {
  TANDEM_SHARED(QjlChannels, channels);
  const EncodeItem item = items[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x), group = static_cast<int>(blockIdx.y);
  const int first = group * cpu::kQjlGroupRows;
  const float* keys = item.k + first * format.padded_k;
  std::byte* norms = item.block + format.k_side;
  std::byte* ids = norms + 2 * cpu::kQjlNormBytes;
  find_qjl_outliers(format, keys, channels, ids + group * format.outliers);
  const int num_parts = format.outliers == 0 ? 1 : 2;
  std::byte* codes = item.block + format.k_codes + first * format.k_stride;
  for (int p = 0; p < num_parts; ++p) encode_qjl_signs(format, keys, qjl_part(format, channels, p != 0), codes);
  if (thread < num_parts * cpu::kQjlGroupRows) {
    const int token = thread % cpu::kQjlGroupRows, p = thread / cpu::kQjlGroupRows;
    reinterpret_cast<std::uint16_t*>(norms)[p * cpu::kQjlBlockRows + first + token] =
        qjl_norm(keys + token * format.padded_k, qjl_part(format, channels, p != 0));
  }
  if (group != 0) return;
  const std::int64_t k_end =
      format.k_side + num_parts * cpu::kQjlNormBytes + cpu::kQjlBlockRows / cpu::kQjlGroupRows * format.outliers;
  fill_zero(item.block, k_end, format.v_codes);
  fill_zero(item.block, format.v_side + 4 * cpu::kQjlBlockRows * (format.dim_v / kGroupElements), format.block_bytes);
}

/// Encodes V of blocks; blockIdx.y is the group of tokens.
__global__ void __launch_bounds__(kQjlCodeThreads)
    qjl_encode_values(cpu::BlockFormat format, const EncodeItem* __restrict__ items) {
  const EncodeItem item = items[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x), first = static_cast<int>(blockIdx.y) * cpu::kQjlGroupRows;
  const int chunks = static_cast<int>(format.v_stride) / 16;
  for (int i = thread; i < cpu::kQjlGroupRows * chunks; i += kQjlCodeThreads) {
    const int row = first + i / chunks, chunk = i % chunks;
    encode_chunk<2>({item.v + row * format.padded_v, 1, format.dim_v, kGroupElements}, chunk * kChunkCodes<2>,
                    item.block + format.v_codes + row * format.v_stride + chunk * 16,
                    reinterpret_cast<unsigned short*>(item.block + format.v_side) + row, 2 * cpu::kQjlBlockRows,
                    cpu::kQjlBlockRows);
  }
}

/// One channel of a decoded key, in the order of additions that the host has.
__device__ inline float decode_qjl_channel(const cpu::BlockFormat& format, const std::byte* block, int row,
                                           int channel) {
  if (channel >= format.dim_k) return 0.f;
  const std::byte* norms = block + format.k_side;
  const std::byte* ids = norms + 2 * cpu::kQjlNormBytes + row / cpu::kQjlGroupRows * format.outliers;
  bool is_outlier = false;
  for (int o = 0; o < format.outliers; ++o) is_outlier = is_outlier || static_cast<int>(ids[o]) == channel;
  const int bits = is_outlier ? format.outlier_bits : format.sketch_bits;
  const auto* words = reinterpret_cast<const unsigned*>(block + format.k_codes +
                                                        row / cpu::kQjlWordRows * cpu::kQjlWordRows * format.k_stride) +
                      row % cpu::kQjlWordRows + (is_outlier ? format.sketch_bits / 32 * cpu::kQjlWordRows : 0);
  const float* direction = format.projection + channel * format.sketch_bits;
  double sums[8] = {};
  for (int j = 0; j < bits; j += 8) {
    const unsigned signs = words[j / 32 * cpu::kQjlWordRows] >> j % 32;
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i] += (signs >> i & 1u) != 0 ? direction[j + i] : -direction[j + i];
  }
  double sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += sums[i];
  const unsigned norm = reinterpret_cast<const std::uint16_t*>(norms)[(is_outlier ? cpu::kQjlBlockRows : 0) + row];
  const float factor =
      group_scale(norm) * format.k_factor * static_cast<float>(format.sketch_bits) / static_cast<float>(bits);
  return static_cast<float>(static_cast<double>(factor) * sum);
}

__device__ inline float decode_qjl_element(const cpu::BlockFormat& format, const std::byte* block, int row, int d) {
  if (d >= format.dim_v) return 0.f;
  const auto* scales = reinterpret_cast<const unsigned short*>(block + format.v_side) +
                       2 * (d / kGroupElements) * cpu::kQjlBlockRows + row;
  return value_of(group_side(scales[0], scales[cpu::kQjlBlockRows]),
                  static_cast<float>(packed_code<2>(block + format.v_codes + row * format.v_stride, d)));
}

__global__ void __launch_bounds__(kQjlCodeThreads)
    qjl_decode(cpu::BlockFormat format, const DecodeItem* __restrict__ items) {
  const DecodeItem item = items[blockIdx.x];
  for (int i = static_cast<int>(threadIdx.x); i < item.count * format.padded_k; i += kQjlCodeThreads)
    item.k[i] = decode_qjl_channel(format, item.block, item.first + i / format.padded_k, i % format.padded_k);
  for (int i = static_cast<int>(threadIdx.x); i < item.count * format.padded_v; i += kQjlCodeThreads)
    item.v[i] = decode_qjl_element(format, item.block, item.first + i / format.padded_v, i % format.padded_v);
}

}  // namespace tandem::gpu::cuda
