#pragma once

#include "gpu/cuda/kernels/plane_products.cuh"

// Sketches of keys, to the bytes of cpu/sketch_encoding.inl.

namespace tandem::gpu::cuda {

/// Between transformed keys in shared memory: two rows that a warp reads at once lie in different banks.
__host__ __device__ constexpr int sketch_stride(int padded_dims) { return padded_dims + 16; }

/// Floats of shared memory for the keys and, after them and in their place, for the transformed keys.
__host__ __device__ constexpr int sketch_floats(int padded_k, int padded_dims) {
  return kCodingRows * (padded_k > sketch_stride(padded_dims) ? padded_k : sketch_stride(padded_dims));
}

/// The sum of 16 partial sums of 16 neighbouring lanes, in each of them: added in the host's order.
__device__ inline float strided_total(float sum) {
  sum += __shfl_xor_sync(kWholeWarp, sum, 8, 16);
  sum += __shfl_xor_sync(kWholeWarp, sum, 4, 16);
  sum += __shfl_xor_sync(kWholeWarp, sum, 1, 16);
  return sum + __shfl_xor_sync(kWholeWarp, sum, 2, 16);
}

/// Levels (padded_dims, kCodingRows) and the factor of one transformed key, by 16 neighbouring lanes; the whole warp
/// calls it.
template <bool kFused>
__device__ inline float quantise_key(const SketchCoding& sketch, const float* z, int row, std::uint8_t* levels) {
  const int lane = static_cast<int>(threadIdx.x) % 16;
  float squares = 0.f, products = 0.f;
  for (int i = lane; i < sketch.padded_dims; i += 16) squares = multiply_add<kFused>(z[i], z[i], squares);
  const float square = strided_total(squares);
  const float inverse_norm = square > 0.f ? 1.f / sqrtf(square) : 0.f;
  for (int i = lane; i < sketch.padded_dims; i += 16) {
    const float half_levels = sketch.levels[i], highest = half_levels - 1.f;
    const float level = floorf(z[i] * inverse_norm * sketch.inverse_steps[i]);
    const float above = level > -half_levels ? level : -half_levels;
    const float clamped = above < highest ? above : highest;
    products = multiply_add<kFused>(z[i], sketch.steps[i] * (clamped + 0.5f), products);
    const float from_zero = clamped + half_levels;
    levels[i * kCodingRows + row] = static_cast<std::uint8_t>(from_zero > 0.f ? from_zero : 0.f);
  }
  const float product = strided_total(products);
  return product > 0.f ? square / product : 0.f;
}

/// Byte `index` of the code of a lane's row.
__device__ inline unsigned code_byte(const SketchCoding& sketch, const std::uint8_t* levels, int index) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint4 sources = reinterpret_cast<const uint4*>(sketch.bits)[index];
  const unsigned words[4] = {sources.x, sources.y, sources.z, sources.w};
  unsigned byte = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const unsigned source = words[i / 2] >> i % 2 * 16 & 0xffffu;
    byte |= (static_cast<unsigned>(levels[(source >> 2) * kCodingRows + lane]) >> (source & 3u) & 1u) << i;
  }
  return byte;
}

/// Codes rows into `blocks` of SketchFormat, two blocks of threads for each; rows that do not exist become 0. Shared
/// memory: sketch_floats() floats, padded_dims * kCodingRows bytes. padded_dims <= kTiles * kTilePlanes.
template <bool kFused, int kTiles>
__global__ void __launch_bounds__(kCodingThreads)
    sketch_codes(KeyRows keys, SketchCoding sketch, std::byte* __restrict__ blocks) {
  TANDEM_DYNAMIC_SHARED(memory);
  auto* floats = reinterpret_cast<float*>(memory);
  auto* levels = reinterpret_cast<std::uint8_t*>(floats + sketch_floats(keys.padded_k, sketch.padded_dims));
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first = static_cast<int>(blockIdx.x) * kCodingRows, half = static_cast<int>(blockIdx.x) % 2;
  std::byte* block = blocks + static_cast<std::int64_t>(blockIdx.x / 2) * (sketch.code_bytes + 2) * 64;

  load_centred_keys<kCodingRows>(keys, first, floats);
  PlaneProducts<kFused, kTiles> products;
  products.multiply(floats, keys.padded_k, sketch.planes, sketch.padded_dims, 0);
  __syncthreads();  // the keys make room
  const ProductPlace place = product_place();
  const int stride = sketch_stride(sketch.padded_dims);
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const int plane = t * kTilePlanes + place.plane;
    if (plane >= sketch.padded_dims) continue;
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const float(&sums)[4] = products.sums[t][u];
      *reinterpret_cast<float4*>(floats + (place.key + u) * stride + plane) =
          float4{sums[0], sums[1], sums[2], sums[3]};
    }
  }
  __syncthreads();

  for (int pass = 0; pass < kCodingRows / kCodingWarps / 2; ++pass) {
    const int row = (warp * (kCodingRows / kCodingWarps / 2) + pass) * 2 + lane / 16;
    float factor = quantise_key<kFused>(sketch, floats + row * stride, row, levels) * sketch.inverse_factor_scale;
    factor = factor < 65504.f ? factor : 65504.f;
    if (lane % 16 != 0) continue;
    reinterpret_cast<std::uint16_t*>(block + sketch.code_bytes * 64)[half * kCodingRows + row] =
        static_cast<std::uint16_t>(first + row < keys.count ? float_to_f16(factor) : 0u);
  }
  __syncthreads();
  for (int j = warp; j < sketch.code_bytes; j += kCodingWarps) {
    const unsigned byte = code_byte(sketch, levels, j);
    block[j * 64 + 2 * lane + half] = static_cast<std::byte>(first + lane < keys.count ? byte : 0u);
  }
}

}  // namespace tandem::gpu::cuda
