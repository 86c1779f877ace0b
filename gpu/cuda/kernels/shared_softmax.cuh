#pragma once

#include "gpu/cuda/kernels/coded_tile.cuh"

// Where tables are what takes room, the warps of a block of threads share a tile of tokens, and each has tables of some
// of the keys' columns: what such kernels share.

namespace tandem::gpu::cuda {

/// N floats that are loaded together.
template <int N>
struct alignas(4 * N) Floats {
  float x[N];
};

/// Bytes on their way to shared memory: they are loaded early, and stored where somebody has done other work meanwhile.
/// A multiple of 16, as are both addresses. All threads of the block take part.
template <int MostBytes, int Threads>
struct BytesAhead {
  static constexpr int kWords = (MostBytes / 16 + Threads - 1) / Threads;
  uint4 words[kWords];

  __device__ BytesAhead(const std::byte* source, int bytes) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const int at = i * Threads + static_cast<int>(threadIdx.x);
      if (at < bytes / 16) words[i] = reinterpret_cast<const uint4*>(source)[at];
    }
  }
  __device__ void store(int bytes, uint4* target) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const int at = i * Threads + static_cast<int>(threadIdx.x);
      if (at < bytes / 16) target[at] = words[i];
    }
  }
};

/// The running softmax of a block of threads over tiles that it shares, in shared memory.
template <int Vectors, int Warps>
struct SharedSoftmax {
  float scores[Warps][Vectors][kTileTokens];  ///< parts of <q, k>, one of each warp
  Floats<Vectors> weights[kTileTokens];       ///< of the tile: e^(logit - largest)
  float kept[Vectors];                        ///< what sums over earlier tiles are multiplied with
  float largest[Vectors];                     ///< logit so far, in base 2
  float sum[Vectors];                         ///< of all weights so far
  LogitRule rules[Vectors];

  /// Of vectors [first, first + count) of a job; the others of Vectors repeat the last. By all threads of the block.
  __device__ void clear(const Queries& queries, std::int32_t first, int count) {
    const int v = static_cast<int>(threadIdx.x);
    if (v >= Vectors) return;
    largest[v] = -infinity();
    sum[v] = 0.f;
    rules[v] = logit_rule(queries, first + min(v, count - 1));
  }

  /// Makes weights of the scores of the tile that begins at `position`. By all threads of the block; a barrier comes
  /// before and after.
  __device__ void weigh(std::int64_t position, const TokenSpan& span) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int v = static_cast<int>(threadIdx.x) / 32; v < Vectors; v += Warps) {
      float logits[kTileTokens / 32];
      const float before = largest[v];
      float most = -infinity();
#pragma unroll
      for (int i = 0; i < kTileTokens / 32; ++i) {
        const int token = i * 32 + lane;
        float dot = 0.f;
#pragma unroll
        for (int w = 0; w < Warps; ++w) dot += scores[w][v][token];
        const std::int64_t at = position + token;
        logits[i] = at >= span.begin && at < span.end ? logit2(rules[v], at, dot) : -infinity();
        most = fmaxf(most, logits[i]);
      }
#pragma unroll
      for (int offset = 16; offset > 0; offset /= 2) most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, offset, 32));
      most = fmaxf(most, before);
      const bool empty = most == -infinity();
      float total = 0.f;
#pragma unroll
      for (int i = 0; i < kTileTokens / 32; ++i) {
        const float weight = empty ? 0.f : exp2f(logits[i] - most);
        weights[i * 32 + lane].x[v] = weight;
        total += weight;
      }
#pragma unroll
      for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(kWholeWarp, total, offset, 32);
      if (lane == 0) {
        kept[v] = empty ? 1.f : exp2f(before - most);
        largest[v] = most;
        sum[v] = fmaf(sum[v], kept[v], total);
      }
    }
  }

  /// What a sum over all tiles is multiplied with; 0 where no token was seen.
  [[nodiscard]] __device__ float normaliser(int v) const { return sum[v] > 0.f ? 1.f / sum[v] : 0.f; }
  /// Natural.
  [[nodiscard]] __device__ float lse(int v) const {
    return sum[v] > 0.f ? (largest[v] + log2f(sum[v])) * kLn2 : -infinity();
  }
};

}  // namespace tandem::gpu::cuda
