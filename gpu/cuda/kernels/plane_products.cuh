#pragma once

#include "gpu/cuda/kernels/centred_keys.cuh"

// Products of kCodingRows keys with planes: a matrix product whose sums run over the dimensions in order, as those of
// the host do. Keys lie in shared memory with a stride of kCodingRows, planes (padded_k, num_planes) in global memory,
// where the first of the warps to need a line brings it to the L1 cache for the others.

namespace tandem::gpu::cuda {

inline constexpr int kTilePlanes = 64;

/// a * b + c with one rounding or, as hosts without such an instruction have it, with two.
template <bool kFused>
__device__ inline float multiply_add(float a, float b, float c) {
  if constexpr (kFused) {
    return fmaf(a, b, c);
  } else {
    return rounded_product(a, b) + c;
  }
}

/// Which keys and planes are a thread's: four of each, of every tile.
struct ProductPlace {
  int key;    ///< the first
  int plane;  ///< likewise, within a tile
};
__device__ inline ProductPlace product_place() {
  const int thread = static_cast<int>(threadIdx.x);
  return {thread / 16 * 4, thread % 16 * 4};
}

/// Products with kTiles tiles of planes from `first` on; those beyond num_planes are 0.
template <bool kFused, int kTiles>
struct PlaneProducts {
  float sums[kTiles][4][4];  ///< (tile, key, plane) of ProductPlace

  __device__ void multiply(const float* keys, int padded_k, const float* planes, int num_planes, int first) {
    const ProductPlace place = product_place();
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int i = 0; i < 16; ++i) sums[t][i / 4][i % 4] = 0.f;
    }
    for (int d = 0; d < padded_k; ++d) {
      const float4 four = *reinterpret_cast<const float4*>(keys + d * kCodingRows + place.key);
      const float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        const int plane = first + t * kTilePlanes + place.plane;
        if (plane >= num_planes) continue;
        const float4 p = *reinterpret_cast<const float4*>(planes + static_cast<std::int64_t>(d) * num_planes + plane);
#pragma unroll
        for (int u = 0; u < 4; ++u) {
          sums[t][u][0] = multiply_add<kFused>(x[u], p.x, sums[t][u][0]);
          sums[t][u][1] = multiply_add<kFused>(x[u], p.y, sums[t][u][1]);
          sums[t][u][2] = multiply_add<kFused>(x[u], p.z, sums[t][u][2]);
          sums[t][u][3] = multiply_add<kFused>(x[u], p.w, sums[t][u][3]);
        }
      }
    }
  }
};

}  // namespace tandem::gpu::cuda
