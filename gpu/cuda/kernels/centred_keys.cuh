#pragma once

#include "gpu/cuda/kernels/coding_work.cuh"
#include "gpu/cuda/kernels/elements.cuh"
#include "gpu/cuda/kernels/rounding.cuh"

// Keys of host rows, less their mean, in shared memory: (padded_k, kCodingRows) with a stride between dimensions. A
// block of threads codes kCodingRows rows, half a block of codes: lanes are rows.

namespace tandem::gpu::cuda {

inline constexpr int kCodingThreads = 128;
inline constexpr int kCodingWarps = kCodingThreads / 32;
inline constexpr int kCodingRows = 32;

/// Dimensions 8 chunk to 8 chunk + 7 of a key.
__device__ inline void load_key8(const KeyRows& keys, const std::byte* row, int chunk, float (&x)[8]) {
  switch (keys.type) {
    case KeyType::f32:
      return unpack8(load_raw8<F32>(row + chunk * 32), x);
    case KeyType::f16:
      return unpack8(load_raw8<F16>(row + chunk * 16), x);
    case KeyType::bf16:
      return unpack8(load_raw8<Bf16>(row + chunk * 16), x);
    case KeyType::int8:
      break;
  }
  const float scale = *reinterpret_cast<const float*>(row + keys.padded_k);
  const uint2 words = reinterpret_cast<const uint2*>(row)[chunk];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const unsigned word = i < 4 ? words.x : words.y;
    x[i] = rounded_product(static_cast<float>(static_cast<int>(word << (24 - i % 4 * 8)) >> 24), scale);
  }
}

/// Rows first to first + kCodingRows - 1; those that do not exist are 0. By all threads, which then meet.
template <int kStride>
__device__ inline void load_centred_keys(const KeyRows& keys, int first, float* centred) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const bool is_row = first + lane < keys.count;
  const std::byte* row = keys.rows + static_cast<std::int64_t>(first + lane) * keys.stride;
  for (int chunk = warp; chunk < keys.padded_k / 8; chunk += kCodingWarps) {
    float x[8] = {};
    if (is_row) {
      load_key8(keys, row, chunk, x);
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] -= keys.mean[chunk * 8 + i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) centred[(chunk * 8 + i) * kStride + lane] = x[i];
  }
  __syncthreads();
}

}  // namespace tandem::gpu::cuda
