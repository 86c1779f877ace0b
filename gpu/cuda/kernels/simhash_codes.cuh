#pragma once

#include "gpu/cuda/kernels/plane_products.cuh"

// SimHash codes of keys, those of cpu/simhash_kernels.inl. A block of threads first finds the sign bits of its rows,
// words (num_bits / 32, kCodingRows) in shared memory, and then what bits every table has of them.

namespace tandem::gpu::cuda {

/// The norms of keys as 1 / |k|, or 0. Eight neighbouring lanes share a row, and eighths of the dimensions are added in
/// order; products of two floats are exact in double, so that joining them with the sum changes nothing.
template <int kStride>
__device__ inline void write_inverse_norms(const KeyRows& keys, const float* centred, int first, float* inverse_norms) {
  constexpr int kSums = 8;
  const int thread = static_cast<int>(threadIdx.x);
  for (int row = thread / kSums; row < kCodingRows; row += kCodingThreads / kSums) {
    double squares = 0;
    for (int d = thread % kSums; d < keys.padded_k; d += kSums) {
      const double x = centred[d * kStride + row];
      squares += x * x;
    }
    double square = 0;
    for (int i = 0; i < kSums; ++i) square += __shfl_sync(kWholeWarp, squares, i, kSums);
    if (thread % kSums == 0 && first + row < keys.count)
      inverse_norms[first + row] = square > 0 ? static_cast<float>(1.0 / sqrt(square)) : 0.f;
  }
}

/// The codes of the rows in every table, from their bits.
__device__ inline void write_codes(const KeyRows& keys, const HashCoding& hash, const unsigned* words, int first,
                                   std::uint16_t* codes) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::uint16_t* target = codes + static_cast<std::int64_t>(blockIdx.x / 2) * hash.num_tables * (2 * kCodingRows) +
                          static_cast<int>(blockIdx.x) % 2 * kCodingRows + lane;
  for (int t = warp; t < hash.num_tables; t += kCodingWarps) {
    const std::uint16_t* sampled = hash.sampled + t * hash.bits_per_table;
    unsigned code = 0;
    for (int i = 0; i < hash.bits_per_table; ++i) {
      const unsigned bit = sampled[i];
      code |= (words[(bit / 32) * kCodingRows + lane] >> bit % 32 & 1u) << i;
    }
    target[t * 2 * kCodingRows] = static_cast<std::uint16_t>(first + lane < keys.count ? code : 0u);
  }
}

/// Codes rows by Gaussian planes, two blocks of threads for each block of codes; codes of rows that do not exist are 0.
/// Shared memory: kCodingRows * (padded_k + num_bits / 32) words.
template <bool kFused>
__global__ void __launch_bounds__(kCodingThreads)
    gaussian_codes(KeyRows keys, HashCoding hash, std::uint16_t* __restrict__ codes,
                   float* __restrict__ inverse_norms) {
  constexpr int kTiles = 2;
  TANDEM_DYNAMIC_SHARED(memory);
  auto* centred = reinterpret_cast<float*>(memory);
  auto* words = reinterpret_cast<unsigned*>(centred + kCodingRows * keys.padded_k);
  const int first = static_cast<int>(blockIdx.x) * kCodingRows;
  load_centred_keys<kCodingRows>(keys, first, centred);
  write_inverse_norms<kCodingRows>(keys, centred, first, inverse_norms);
  const ProductPlace place = product_place();
  const int piece = place.plane / 4 % 8;  // of a word: eight neighbouring lanes have its bits
  for (int plane = 0; plane < hash.num_bits; plane += kTiles * kTilePlanes) {
    PlaneProducts<kFused, kTiles> products;
    products.multiply(centred, keys.padded_k, hash.planes, hash.num_bits, plane);
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        unsigned word = 0;
#pragma unroll
        for (int v = 0; v < 4; ++v) word |= (products.sums[t][u][v] > 0.f ? 1u : 0u) << (4 * piece + v);
#pragma unroll
        for (int offset = 1; offset < 8; offset *= 2) word |= __shfl_xor_sync(kWholeWarp, word, offset, 32);
        const int first_bit = plane + t * kTilePlanes + place.plane / 32 * 32;
        if (piece == u && first_bit < hash.num_bits) words[first_bit / 32 * kCodingRows + place.key + u] = word;
      }
    }
  }
  __syncthreads();
  write_codes(keys, hash, words, first, codes);
}

/// Walsh-Hadamard transform of 32 kValues values, value j of a lane being number 32 j + lane; or of two transforms of
/// 16, side by side.
template <int kValues>
__device__ inline void walsh_hadamard(float (&x)[kValues], int lanes) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int distance = 1; distance < lanes; distance *= 2) {
    const bool is_upper = (lane & distance) != 0;
#pragma unroll
    for (int j = 0; j < kValues; ++j) {
      const float other = __shfl_xor_sync(kWholeWarp, x[j], distance, 32);
      x[j] = is_upper ? other - x[j] : x[j] + other;
    }
  }
#pragma unroll
  for (int distance = 1; distance < kValues; distance *= 2) {
#pragma unroll
    for (int j = 0; j < kValues; ++j) {
      if ((j & distance) != 0) continue;
      const float a = x[j], b = x[j + distance];
      x[j] = a + b;
      x[j + distance] = a - b;
    }
  }
}

inline constexpr int kHadamardStride = kCodingRows + 1;  ///< lanes are dimensions: they read different banks

/// As gaussian_codes(), by Hadamard transforms of 32 kValues dimensions (or 16), a warp for each row. Shared memory:
/// kHadamardStride * padded_k + kCodingRows * num_bits / 32 words.
template <int kValues>
__global__ void __launch_bounds__(kCodingThreads)
    hadamard_codes(KeyRows keys, HashCoding hash, std::uint16_t* __restrict__ codes,
                   float* __restrict__ inverse_norms) {
  TANDEM_DYNAMIC_SHARED(memory);
  auto* centred = reinterpret_cast<float*>(memory);
  auto* words = reinterpret_cast<unsigned*>(centred + kHadamardStride * keys.padded_k);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first = static_cast<int>(blockIdx.x) * kCodingRows;
  load_centred_keys<kHadamardStride>(keys, first, centred);
  write_inverse_norms<kHadamardStride>(keys, centred, first, inverse_norms);
  const int lanes = min(hash.block, 32), part = lane / lanes, dim = lane % lanes;
  for (int row = warp; row < kCodingRows; row += kCodingWarps) {
    float mixed[kValues];
#pragma unroll
    for (int j = 0; j < kValues; ++j) {
      const int d = 32 * j + dim;
      mixed[j] = d < keys.padded_k ? centred[d * kHadamardStride + row] * hash.planes[d] : 0.f;
    }
    walsh_hadamard(mixed, lanes);
    for (int bit = 0; bit < hash.num_bits; bit += 32 * kValues) {
      const float* signs = hash.planes + hash.block + bit + part * lanes + dim;
      float rotated[kValues];
#pragma unroll
      for (int j = 0; j < kValues; ++j) rotated[j] = mixed[j] * signs[32 * j];
      walsh_hadamard(rotated, lanes);
#pragma unroll
      for (int j = 0; j < kValues; ++j) {
        const unsigned word = __ballot_sync(kWholeWarp, rotated[j] > 0.f);
        if (lane == 0) words[(bit / 32 + j) * kCodingRows + row] = word;
      }
    }
  }
  __syncthreads();
  write_codes(keys, hash, words, first, codes);
}

}  // namespace tandem::gpu::cuda
