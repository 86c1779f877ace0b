#pragma once

#include "gpu/cuda/kernels/nuq_layout.cuh"
#include "gpu/cuda/kernels/shared_softmax.cuh"

// Weighted sums of V of codec nuq. A token's V is level * scale + offset, and residuals: scales are folded into
// weights, offsets summed apart, as they are the same for all elements, and residuals are added by the thread that has
// their element, which finds its tokens in a mask.

namespace tandem::gpu::cuda {

/// For each element, the tokens of a tile in which it is an outlier.
template <int Dims>
struct OutlierMasks {
  unsigned of[cpu::kNuqBlockRows / 32][Dims];

  template <int Threads>
  __device__ void clear(int padded_v) {
    for (int d = static_cast<int>(threadIdx.x); d < padded_v; d += Threads) of[0][d] = of[1][d] = 0;
  }
  /// By all threads; a barrier comes before and after. Bits may be set in any order.
  template <int Threads>
  __device__ void set(const unsigned* residuals, int outliers) {
    for (int i = static_cast<int>(threadIdx.x); i < cpu::kNuqBlockRows * outliers; i += Threads) {
      const int row = i / outliers;
      atomicOr(&of[row / 32][place_of(residuals[i])], 1u << row % 32);
    }
  }
};

/// What a thread has of V: elements `element` and the one 16 later of tokens [first, first + count) of every tile.
template <int Vectors, int Threads>
struct NuqValues {
  int width;  ///< threads that share a token
  int element;
  int first;
  int count;  ///< a multiple of 8, at most 32
  float sums[2][Vectors];

  __device__ explicit NuqValues(int padded_v) {
    const int least = Threads / 8;  // eight tokens for each thread
    width = padded_v <= 2 * least ? least : padded_v <= 4 * least ? 2 * least : 4 * least;
    const int thread = static_cast<int>(threadIdx.x), column = thread % width;
    element = column / 16 * 32 + column % 16;
    count = kTileTokens * width / Threads;
    first = thread / width * count;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#pragma unroll
      for (int v = 0; v < Vectors; ++v) sums[e][v] = 0.f;
    }
  }

  __device__ void rescale(const float (&kept)[Vectors]) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#pragma unroll
      for (int v = 0; v < Vectors; ++v) sums[e][v] *= kept[v];
    }
  }

  /// Adds a tile, whose codes of V lie at `codes`. `scaled` are its weights times its scales, `levels` (kNuqLevels).
  template <bool IsFour>
  __device__ void add(const std::byte* codes, int bits, int padded_v, const float* levels,
                      const Floats<Vectors>* scaled) {
    if (element >= padded_v) return;
    const int later = element + 16 < padded_v ? cpu::kNuqLanes * bits : 0;  // where there is none, nobody reads its sum
    for (int token = first; token < first + count; token += cpu::kNuqFields) {
      const std::byte* unit =
          codes + (token / cpu::kNuqFields * (padded_v / 16) + element / 16) * cpu::kNuqLanes * bits + element % 16;
      const NuqLane<IsFour> lanes[2] = {{unit, bits}, {unit + later, bits}};
#pragma unroll
      for (int field = 0; field < cpu::kNuqFields; ++field) {
        const Floats<Vectors> weight = scaled[token + field];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float level = levels[lanes[e].code(field)];
#pragma unroll
          for (int v = 0; v < Vectors; ++v) sums[e][v] = fmaf(weight.x[v], level, sums[e][v]);
        }
      }
    }
  }

  /// Adds the residuals (kTileTokens, outliers) of a tile.
  template <int Dims>
  __device__ void add_residuals(const unsigned* residuals, int outliers, int padded_v, const OutlierMasks<Dims>& masks,
                                const Floats<Vectors>* weights) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int place = element + e * 16;
      if (place >= padded_v) break;
      unsigned tokens = masks.of[first / 32][place] >> first % 32;
      if (count < 32) tokens &= (1u << count) - 1u;
      for (; tokens != 0; tokens &= tokens - 1u) {
        const int token = first + __ffs(static_cast<int>(tokens)) - 1;
        const unsigned* of_token = residuals + token * outliers;
        while (place_of(*of_token) != place) ++of_token;
#pragma unroll
        for (int v = 0; v < Vectors; ++v) sums[e][v] = fmaf(weights[token].x[v], residual_of(*of_token), sums[e][v]);
      }
    }
  }

  /// Joins what threads have of one vector, in `parts` (2 * Threads), adds `offset` and writes its (dim_v), times
  /// `factor`, where `out` is not nullptr. By all threads.
  __device__ void write(int v, int dim_v, float offset, float factor, float* parts, float* out) const {
    const int thread = static_cast<int>(threadIdx.x);
    __syncthreads();
#pragma unroll
    for (int e = 0; e < 2; ++e) parts[thread / width * 2 * width + element + e * 16] = sums[e][v];
    __syncthreads();
    for (int d = thread; d < dim_v && out != nullptr; d += Threads) {
      float sum = offset;
      for (int part = 0; part < Threads / width; ++part) sum += parts[part * 2 * width + d];
      out[d] = sum * factor;
    }
  }
};

}  // namespace tandem::gpu::cuda
