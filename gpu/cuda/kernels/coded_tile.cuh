#pragma once

#include "gpu/cuda/kernels/logit.cuh"

// What attention kernels over coded tokens share. A warp takes tiles of 64 tokens by itself: it computes their scores
// with the vectors of its item, one token after the other or many at once as the codes lie; has the weights of softmax,
// with tokens as lanes; and adds up weighted values, with elements as lanes. Scores and weights of a tile lie in shared
// memory, and no barrier of the block holds up a warp before the end.

namespace tandem::gpu::cuda {

inline constexpr int kCodedThreads = 128;
inline constexpr int kCodedWarps = kCodedThreads / 32;
inline constexpr int kTileTokens = 64;

/// 64 tokens of a coded block. Blocks are whole: what no query sees of them is finite too.
struct CodedTile {
  const cpu::BlockFormat* format;
  const std::byte* block;
  int first;              ///< row of the block: 0 or 64
  std::int64_t position;  ///< of the first token
};

__device__ inline CodedTile tile_of(const CodedJob& job, std::int64_t first_token) {
  const int block_rows = job.format->block_rows;
  const std::int64_t block = first_token / block_rows;
  return {job.format, job.blocks[static_cast<std::int32_t>(block % job.ring_blocks)],
          static_cast<int>(first_token % block_rows), job.origin + first_token};
}

/// Begins to bring `bytes` from `begin` on to the L2 cache, by one warp.
__device__ inline void prefetch(const std::byte* begin, std::int64_t bytes) {
  constexpr int kLineBytes = 128;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x % 32) * kLineBytes; i < bytes; i += 32 * kLineBytes)
    prefetch_to_l2(begin + i);
}

/// The block of a tile that a warp will take next, or of two tiles a half each: more than registers could wait for.
__device__ inline void prefetch_tile(const CodedTile& tile) {
  const cpu::BlockFormat& format = *tile.format;
  const std::int64_t bytes = format.block_bytes * kTileTokens / format.block_rows;
  prefetch(tile.block + tile.first / kTileTokens * bytes, bytes);
}

/// Positions that an item covers.
struct TokenSpan {
  std::int64_t begin;
  std::int64_t end;
};

__device__ inline TokenSpan span_of(const CodedJob& job, const WorkItem& item) {
  const std::int64_t begin = job.origin + item.begin, end = job.origin + item.end;
  return {begin > job.begin ? begin : job.begin, end < job.end ? end : job.end};
}

/// Turns <q, k> of `tokens` of a tile into logits in base 2, -infinity where the query does not see a token.
template <int Count>
__device__ void to_logits(const LogitRule& rule, const CodedTile& tile, const TokenSpan& span,
                          const int (&tokens)[Count], float (&dots)[Count]) {
  const std::int64_t first = (span.begin > rule.span.first ? span.begin : rule.span.first) - tile.position;
  const std::int64_t last = (span.end < rule.span.end ? span.end : rule.span.end) - tile.position;
  const int begin = first < kTileTokens ? static_cast<int>(first > 0 ? first : 0) : kTileTokens;
  const int end = last < kTileTokens ? static_cast<int>(last > 0 ? last : 0) : kTileTokens;
  if (rule.softcap > 0.f || rule.slope != 0.f) {
#pragma unroll
    for (int i = 0; i < Count; ++i) dots[i] = logit2(rule, tile.position + tokens[i], dots[i]);
  } else {
#pragma unroll
    for (int i = 0; i < Count; ++i) dots[i] *= kLog2E;
  }
#pragma unroll
  for (int i = 0; i < Count; ++i) dots[i] = tokens[i] >= begin && tokens[i] < end ? dots[i] : -infinity();
}

/// Scores of a tile, then weights.
template <int Vectors>
struct alignas(Vectors * 4 < 16 ? 4 : 16) TileScores {
  float of[kTileTokens][Vectors];
};

/// Softmax of a warp's tiles, as OnlineSoftmax: `largest` is the same for all lanes, `sum` that of a lane's tokens.
template <int Vectors>
struct TileSoftmax {
  float largest[Vectors];
  float sum[Vectors];

  __device__ void clear() {
#pragma unroll
    for (int x = 0; x < Vectors; ++x) {
      largest[x] = -infinity();
      sum[x] = 0.f;
    }
  }

  /// Turns the scores of a tile into weights, times the factor that the codec has for a token's values, and scales
  /// `out` down to the new largest logit. All lanes of the warp call it.
  template <typename Codec, int N>
  __device__ void weigh(const CodedTile& tile, const TokenSpan& span, const LogitRule* rules,
                        TileScores<Vectors>& scores, float (&out)[Vectors][N]) {
    constexpr int kOfLane = kTileTokens / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float key_factors[kOfLane], value_factors[kOfLane];
#pragma unroll
    for (int u = 0; u < kOfLane; ++u) {
      key_factors[u] = Codec::key_factor(tile, lane + 32 * u);
      value_factors[u] = Codec::value_factor(tile, lane + 32 * u);
    }
#pragma unroll
    for (int x = 0; x < Vectors; ++x) {
      float logits[kOfLane], most = largest[x];
      int tokens[kOfLane];
#pragma unroll
      for (int u = 0; u < kOfLane; ++u) {
        tokens[u] = lane + 32 * u;
        logits[u] = scores.of[tokens[u]][x] * key_factors[u];
      }
      to_logits(rules[x], tile, span, tokens, logits);
#pragma unroll
      for (int u = 0; u < kOfLane; ++u) most = fmaxf(most, logits[u]);
#pragma unroll
      for (int offset = 16; offset > 0; offset /= 2) most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, offset, 32));
      const float base = most == -infinity() ? 0.f : most;
      const float kept = exp2f(largest[x] - base);
      largest[x] = most;
      sum[x] *= kept;
#pragma unroll
      for (int u = 0; u < kOfLane; ++u) {
        const float weight = exp2f(logits[u] - base);
        sum[x] += weight;
        scores.of[lane + 32 * u][x] = weight * value_factors[u];
      }
#pragma unroll
      for (int i = 0; i < N; ++i) out[x][i] *= kept;
    }
  }
};

/// N sums over each `Lanes` neighbouring lanes of a warp in N / 2 + N / 4 + ... shuffles: afterwards the first
/// max(1, N / Lanes) of `x` are the sums from index reduced_index<N, Lanes>() on. N and Lanes are powers of two.
template <int N, int Lanes, int Room>
__device__ inline void reduce_transposed(float (&x)[Room]) {
  if constexpr (Lanes > 1) {
    constexpr int kOffset = Lanes / 2;
    if constexpr (N > 1) {
      constexpr int kHalf = N / 2;
      const bool is_upper = (threadIdx.x & static_cast<unsigned>(kOffset)) != 0;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const float given = __shfl_xor_sync(kWholeWarp, is_upper ? x[i] : x[i + kHalf], kOffset, 32);
        x[i] = (is_upper ? x[i + kHalf] : x[i]) + given;
      }
      reduce_transposed<kHalf, kOffset>(x);
    } else {
      x[0] += __shfl_xor_sync(kWholeWarp, x[0], kOffset, 32);
      reduce_transposed<1, kOffset>(x);
    }
  }
}

template <int N, int Lanes>
__device__ inline int reduced_index() {
  const int lane = static_cast<int>(threadIdx.x) % Lanes;
  return N >= Lanes ? lane * (N / Lanes) : lane / (Lanes / N);
}

/// What the warps of a block have found for one vector, to be joined.
template <int Dims>
struct WarpOutputs {
  float largest[kCodedWarps];
  float sum[kCodedWarps];
  float out[kCodedWarps][Dims];
};

/// Writes a partial from what the warps have found for its vector. All threads of the block call it, after a barrier.
template <int Dims>
__device__ void write_joined(const WarpOutputs<Dims>& warps, std::int32_t dim_v, const Partials& partials,
                             std::int64_t row) {
  float most = -infinity();
#pragma unroll
  for (int w = 0; w < kCodedWarps; ++w) most = fmaxf(most, warps.largest[w]);
  const bool empty = most == -infinity();
  float scales[kCodedWarps], sum = 0.f;
#pragma unroll
  for (int w = 0; w < kCodedWarps; ++w) {
    scales[w] = empty ? 0.f : exp2f(warps.largest[w] - most);
    sum = fmaf(scales[w], warps.sum[w], sum);
  }
  for (int d = static_cast<int>(threadIdx.x); d < dim_v; d += kCodedThreads) {
    float element = 0.f;
#pragma unroll
    for (int w = 0; w < kCodedWarps; ++w) element = fmaf(scales[w], warps.out[w][d], element);
    partials.out[row * dim_v + d] = empty ? 0.f : element / sum;
  }
  if (threadIdx.x == 0) partials.lse[row] = empty ? -infinity() : (most + log2f(sum)) * kLn2;
}

/// Writes the partials of `count` vectors. Codec::element says which element of V out[x][i] of a lane is part of, the
/// same for all lanes that are alike modulo Lanes. All threads of the block call it.
template <typename Codec, int Lanes, int Vectors, int N>
__device__ void write_partials(const TileSoftmax<Vectors>& softmax, float (&out)[Vectors][N],
                               WarpOutputs<Lanes * N>& warps, std::int32_t dim_v, int count, const Partials& partials,
                               std::int64_t first_row) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int x = 0; x < Vectors; ++x) {
    if (x >= count) break;
    float sum = softmax.sum[x];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, offset, 32);
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
      for (int offset = 16; offset >= Lanes; offset /= 2)
        out[x][i] += __shfl_xor_sync(kWholeWarp, out[x][i], offset, 32);
      if (lane < Lanes) warps.out[warp][Codec::element(lane, i)] = out[x][i];
    }
    if (lane == 0) {
      warps.largest[warp] = softmax.largest[x];
      warps.sum[warp] = sum;
    }
    __syncthreads();
    write_joined(warps, dim_v, partials, first_row + x);
    __syncthreads();
  }
}

}  // namespace tandem::gpu::cuda
