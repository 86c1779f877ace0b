#pragma once

#include "gpu/cuda/kernels/elements.cuh"
#include "gpu/cuda/kernels/scaled_bytes.cuh"

// Blocks of codecs int8 and fp8 from rows and back, see cpu/codec/scaled_bytes.h.

namespace tandem::gpu::cuda {

inline constexpr int kCodingThreads = 128;
inline constexpr int kCodingSlices = 8;  ///< blocks of threads for one coded block

__device__ inline unsigned to_code(Int8Coding /*coding*/, double multiple) {
  return static_cast<unsigned>(static_cast<int>(rint(multiple))) & 0xffu;
}
__device__ inline unsigned to_code(Fp8Coding /*coding*/, double multiple) {
  return float_to_fp8(static_cast<float>(multiple));
}

__device__ constexpr double largest_code(Int8Coding /*coding*/) { return 127.0; }
__device__ constexpr double largest_code(Fp8Coding /*coding*/) { return 448.0; }

/// One row of K or V, by one warp. In double, as on the host: the same bytes.
template <typename Coding>
__device__ void encode_bytes_row(const float* x, int padded_dim, std::byte* codes, float* scale) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float largest = 0.f;
  for (int i = lane; i < padded_dim; i += 32) largest = fmaxf(largest, fabsf(x[i]));
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, offset, 32));
  constexpr double kMost = largest_code(Coding{});
  if (lane == 0) *scale = static_cast<float>(static_cast<double>(largest) / kMost);
  const double inverse = largest > 0.f ? kMost / static_cast<double>(largest) : 0.0;
  for (int i = lane; i < padded_dim; i += 32)
    codes[i] = static_cast<std::byte>(to_code(Coding{}, fmin(fmax(x[i] * inverse, -kMost), kMost)));
}

/// Block of threads b encodes rows of item b / kCodingSlices.
template <typename Coding>
__global__ void __launch_bounds__(kCodingThreads)
    encode_bytes(const cpu::BlockFormat format, const EncodeItem* __restrict__ items) {
  constexpr int kWarps = kCodingThreads / 32;
  const EncodeItem item = items[blockIdx.x / kCodingSlices];
  const int warp = static_cast<int>(threadIdx.x) / 32 + static_cast<int>(blockIdx.x % kCodingSlices) * kWarps;
  for (int row = warp; row < format.block_rows; row += kCodingSlices * kWarps) {
    encode_bytes_row<Coding>(item.k + row * format.padded_k, format.padded_k,
                             item.block + format.k_codes + row * format.k_stride,
                             reinterpret_cast<float*>(item.block + format.k_side) + row);
    encode_bytes_row<Coding>(item.v + row * format.padded_v, format.padded_v,
                             item.block + format.v_codes + row * format.v_stride,
                             reinterpret_cast<float*>(item.block + format.v_side) + row);
  }
}

/// K or V of `count` rows from `codes` and `scales` on, by all threads of the kCodingSlices blocks of an item.
template <typename Coding>
__device__ void decode_bytes_part(const std::byte* codes, const float* scales, int count, int padded_dim, float* x) {
  const int thread = static_cast<int>(blockIdx.x % kCodingSlices) * kCodingThreads + static_cast<int>(threadIdx.x);
  for (int i = thread * 4; i < count * padded_dim; i += kCodingSlices * kCodingThreads * 4) {
    float quad[4];
    Coding::unpack(*reinterpret_cast<const unsigned*>(codes + i), quad);
    const float scale = scales[i / padded_dim];
    reinterpret_cast<float4*>(x)[i / 4] = {quad[0] * scale, quad[1] * scale, quad[2] * scale, quad[3] * scale};
  }
}

/// Block of threads b decodes rows of item b / kCodingSlices.
template <typename Coding>
__global__ void __launch_bounds__(kCodingThreads)
    decode_bytes(const cpu::BlockFormat format, const DecodeItem* __restrict__ items) {
  const DecodeItem item = items[blockIdx.x / kCodingSlices];
  decode_bytes_part<Coding>(item.block + format.k_codes + item.first * format.k_stride,
                            reinterpret_cast<const float*>(item.block + format.k_side) + item.first, item.count,
                            format.padded_k, item.k);
  decode_bytes_part<Coding>(item.block + format.v_codes + item.first * format.v_stride,
                            reinterpret_cast<const float*>(item.block + format.v_side) + item.first, item.count,
                            format.padded_v, item.v);
}

}  // namespace tandem::gpu::cuda
