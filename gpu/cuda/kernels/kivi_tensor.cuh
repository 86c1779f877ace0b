#pragma once

#include "gpu/cuda/kernels/coded_tile.cuh"
#include "gpu/cuda/kernels/packed_codes.cuh"
#include "gpu/cuda/kernels/tensor_core.cuh"

// Attention over blocks of codec kivi (cpu/codec/kivi.h) on tensor cores. With fp32 units, products with 4 or 8 query
// vectors take longer than reading the codes does; here codes are the rows of a 16x16 operand and up to 8 vectors the
// columns of the other, and the scales of the groups go to the latter.

namespace tandem::gpu::cuda {

inline constexpr int kTensorVectors = 8;
inline constexpr int kFragmentRows = 16;
inline constexpr int kTokenFragments = kTileTokens / kFragmentRows;

/// Codes of 4 rows, 8 or 4 in each half: what a lane has of one chunk (cpu/codec/packed_codes.h).
struct ChunkCodes {
  unsigned pairs[2];

  /// From the bytes of the lane in each of 4 rows, `stride` bytes apart.
  __device__ void load(const std::byte* source, std::int64_t stride) {
    unsigned rows[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) rows[u] = *reinterpret_cast<const unsigned short*>(source + u * stride);
    pairs[0] = rows[0] | rows[1] << 16;
    pairs[1] = rows[2] | rows[3] << 16;
  }

  /// The operand whose row `row` + 8 h has code 16 `vector` + 2 `row` + h of the chunk, for the 4 rows of codes.
  template <int Bits>
  __device__ void operand(int vector, unsigned (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = code_pair<Bits>(pairs[i / 2], 8 * (i % 2) + Bits * vector);
  }
};

/// The scale of a group, and what code centre_of_codes() stands for.
struct CentredSide {
  float scale;
  float centre;
};

template <int Bits>
__device__ inline CentredSide centred_side(unsigned scale, unsigned minimum) {
  const GroupSide side = group_side(scale, minimum);
  return {side.scale, value_of(side, centre_of_codes<Bits>())};
}

/// Attention of one warp over its tiles: up to 8 vectors, padded_k and padded_v up to Dims. A lane has scores of tokens
/// 16 m + 2 row + h with vectors 2 column + c in scores[m][2 h + c], and the weighted sums of elements the same way.
template <int Bits, int Dims>
struct KiviWarp {
  static constexpr int kChunk = kChunkCodes<Bits>;
  static constexpr int kOfChunk = kChunk / kFragmentRows;
  static constexpr int kRuns = Dims / 32;  ///< of 32 elements: no group is shorter

  struct Shared {
    TileScores<kTensorVectors> weights;
    CentredSide sides[2 * Dims];  ///< of K: (group, channel); of V: (run, token)
  };

  float out[Dims / kFragmentRows][4];
  float offsets[kRuns];  ///< weights times centres of a lane's tokens, for vector `row`
  float largest[2], sum[2];
  float kept[2];  ///< of what was there before the tile

  __device__ void clear() {
#pragma unroll
    for (auto& of_fragment : out) {
#pragma unroll
      for (float& x : of_fragment) x = 0.f;
    }
#pragma unroll
    for (float& x : offsets) x = 0.f;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      largest[c] = -infinity();
      sum[c] = 0.f;
    }
  }

  /// Scores up to `bias`, which is that of vector `row` for each half of the tile.
  __device__ static void score(const CodedTile& tile, const float (&queries)[Dims][kTensorVectors], Shared& shared,
                               float (&scores)[kTokenFragments][4], float (&bias)[2]) {
    const cpu::BlockFormat& format = *tile.format;
    const FragmentLane at = fragment_lane();
    const bool two_groups = format.group < kTileTokens;
    load_key_sides(tile, shared);
    __syncwarp();
    const std::byte* codes = tile.block + format.k_codes + at.row * 2 +
                             (tile.first / kTileTokens * format.padded_k + at.column) * format.k_stride;
    bias[0] = bias[1] = 0.f;
#pragma unroll 2
    for (int first = at.column; first < format.padded_k; first += kFragmentRows, codes += 16 * format.k_stride) {
      ChunkCodes chunks[kTileTokens / kChunk];
#pragma unroll
      for (int i = 0; i < kTileTokens / kChunk; ++i) chunks[i].load(codes + 16 * i, 4 * format.k_stride);
      Bf16Sums b;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (half == 0 || two_groups) {
          float x[4];
#pragma unroll
          for (int u = 0; u < 4; ++u) {
            const CentredSide side = shared.sides[half * Dims + first + 4 * u];
            const float q = queries[first + 4 * u][at.row];
            x[u] = q * side.scale;
            bias[half] = fmaf(q, side.centre, bias[half]);
          }
          b = bf16_sums(x);
        }
#pragma unroll
        for (int m = 2 * half; m < 2 * half + 2; ++m) {
          unsigned a[4];
          chunks[m / kOfChunk].template operand<Bits>(m % kOfChunk, a);
          multiply_add(scores[m], a, b);
        }
      }
    }
    if (!two_groups) bias[1] = bias[0];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int offset = 1; offset < 4; offset *= 2) bias[half] += __shfl_xor_sync(kWholeWarp, bias[half], offset, 32);
    }
  }

  /// Turns scores into weights, in shared memory; accumulate() is next.
  __device__ void weigh(const CodedTile& tile, const TokenSpan& span, const LogitRule* rules,
                        const float (&scores)[kTokenFragments][4], const float (&bias)[2], Shared& shared) {
    const FragmentLane at = fragment_lane();
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int vector = 2 * at.column + c;
      float logits[2 * kTokenFragments], most = largest[c];
      int tokens[2 * kTokenFragments];
      const float biases[2] = {__shfl_sync(kWholeWarp, bias[0], vector * 4, 32),
                               __shfl_sync(kWholeWarp, bias[1], vector * 4, 32)};
#pragma unroll
      for (int i = 0; i < 2 * kTokenFragments; ++i) {
        tokens[i] = i / 2 * kFragmentRows + 2 * at.row + i % 2;
        logits[i] = scores[i / 2][i % 2 * 2 + c] + biases[i / kTokenFragments];
      }
      to_logits(rules[vector], tile, span, tokens, logits);
#pragma unroll
      for (int i = 0; i < 2 * kTokenFragments; ++i) most = fmaxf(most, logits[i]);
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, offset, 32));
      const float base = most == -infinity() ? 0.f : most;
      kept[c] = exp2f(largest[c] - base);
      largest[c] = most;
      sum[c] *= kept[c];
#pragma unroll
      for (int i = 0; i < 2 * kTokenFragments; ++i) {
        const float weight = exp2f(logits[i] - base);
        sum[c] += weight;
        shared.weights.of[tokens[i]][vector] = weight;
      }
    }
    const float of_even = __shfl_sync(kWholeWarp, kept[0], at.row / 2, 32);
    const float of_odd = __shfl_sync(kWholeWarp, kept[1], at.row / 2, 32);
#pragma unroll
    for (float& x : offsets) x *= at.row % 2 == 0 ? of_even : of_odd;
  }

  /// Adds the weighted values of a tile.
  __device__ void accumulate(const CodedTile& tile, Shared& shared) {
    const cpu::BlockFormat& format = *tile.format;
    const FragmentLane at = fragment_lane();
    load_value_sides(tile, shared);
    __syncwarp();
    const std::byte* codes = tile.block + format.v_codes + at.row * 2 + (tile.first + at.column) * format.v_stride;
#pragma unroll
    for (int chunk = 0; chunk < Dims / kChunk; ++chunk, codes += 16) {
      if (chunk * kChunk >= format.dim_v) break;
      float sums[kOfChunk][4] = {};
#pragma unroll 1
      for (int t = 0; t < kTokenFragments; ++t) {
        ChunkCodes of_tokens;
        of_tokens.load(codes + t * kFragmentRows * format.v_stride, 4 * format.v_stride);
        const int token = t * kFragmentRows + at.column;
        Bf16Sums b;
#pragma unroll
        for (int m = 0; m < kOfChunk; ++m) {
          const int run = (chunk * kOfChunk + m) / 2;
          if (m % 2 == 0) b = weighted_scales(shared, token, run);
          unsigned a[4];
          of_tokens.template operand<Bits>(m, a);
          multiply_add(sums[m], a, b);
        }
      }
#pragma unroll
      for (int m = 0; m < kOfChunk; ++m) {
        float(&of_fragment)[4] = out[chunk * kOfChunk + m];
#pragma unroll
        for (int i = 0; i < 4; ++i) of_fragment[i] = fmaf(of_fragment[i], kept[i % 2], sums[m][i]);
      }
    }
  }

 private:
  /// The weights of 4 tokens, 4 apart, times the scales of a run of elements, whose centres go to the offsets.
  __device__ Bf16Sums weighted_scales(const Shared& shared, int token, int run) {
    float x[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const CentredSide side = shared.sides[run * kTileTokens + token + 4 * u];
      const float weight = shared.weights.of[token + 4 * u][fragment_lane().row];
      x[u] = weight * side.scale;
      offsets[run] = fmaf(weight, side.centre, offsets[run]);
    }
    return bf16_sums(x);
  }

  /// Of the one or two groups of tokens that a tile is in.
  __device__ static void load_key_sides(const CodedTile& tile, Shared& shared) {
    const cpu::BlockFormat& format = *tile.format;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int g = 0; g == 0 || g * format.group < kTileTokens; ++g) {
      const auto* scales = reinterpret_cast<const unsigned short*>(tile.block + format.k_side) +
                           2 * (tile.first / format.group + g) * format.padded_k;
      for (int channel = lane; channel < format.padded_k; channel += 32)
        shared.sides[g * Dims + channel] = centred_side<Bits>(scales[channel], scales[format.padded_k + channel]);
    }
  }

  /// Of the runs of all chunks; zeros beyond dim_v.
  __device__ static void load_value_sides(const CodedTile& tile, Shared& shared) {
    const cpu::BlockFormat& format = *tile.format;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int run = 0; run < (format.dim_v + kChunk - 1) / kChunk * (kChunk / 32); ++run) {
      const auto* scales = reinterpret_cast<const unsigned short*>(tile.block + format.v_side) +
                           2 * (32 * run / format.group) * format.block_rows + tile.first;
      for (int token = lane; token < kTileTokens; token += 32) {
        shared.sides[run * kTileTokens + token] =
            32 * run < format.dim_v ? centred_side<Bits>(scales[token], scales[format.block_rows + token])
                                    : CentredSide{};
      }
    }
  }
};

/// What the warps of a block hand over for one vector.
template <int Dims>
struct KiviOutputs {
  WarpOutputs<Dims> of;
  float offsets[kCodedWarps][Dims / 32];
};

/// Writes the partials of `count` vectors. All threads of the block call it.
template <int Bits, int Dims>
__device__ void write_kivi_partials(KiviWarp<Bits, Dims>& state, KiviOutputs<Dims>& outputs,
                                    const cpu::BlockFormat& format, int count, const Partials& partials,
                                    std::int64_t first_row) {
  const FragmentLane at = fragment_lane();
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (float& x : state.offsets) {
#pragma unroll
    for (int offset = 1; offset < 4; offset *= 2) x += __shfl_xor_sync(kWholeWarp, x, offset, 32);
  }
#pragma unroll
  for (float& x : state.sum) {
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) x += __shfl_xor_sync(kWholeWarp, x, offset, 32);
  }
#pragma unroll
  for (int x = 0; x < kTensorVectors; ++x) {
    if (x >= count) break;
    if (at.row == x && at.column == 0) {
#pragma unroll
      for (int run = 0; run < Dims / 32; ++run) outputs.offsets[warp][run] = state.offsets[run];
    }
    __syncwarp();
    if (at.column == x / 2) {
#pragma unroll
      for (int i = 0; i < 2 * (Dims / kFragmentRows); ++i) {
        const int element = i / 2 * kFragmentRows + 2 * at.row + i % 2;
        if (element < format.dim_v)
          outputs.of.out[warp][element] = state.out[i / 2][i % 2 * 2 + x % 2] + outputs.offsets[warp][element / 32];
      }
      if (at.row == 0) {
        outputs.of.largest[warp] = state.largest[x % 2];
        outputs.of.sum[warp] = state.sum[x % 2];
      }
    }
    __syncthreads();
    write_joined(outputs.of, format.dim_v, partials, first_row + x);
    __syncthreads();
  }
}

template <int Bits, int Dims>
__device__ void attend_kivi_item(const CodedJob& job, const WorkItem& item, const Partials& partials) {
  struct Shared {
    typename KiviWarp<Bits, Dims>::Shared warps[kCodedWarps];
    float queries[Dims][kTensorVectors];
    KiviOutputs<Dims> outputs;
    LogitRule rules[kTensorVectors];
  };
  TANDEM_SHARED(Shared, shared);
  const int thread = static_cast<int>(threadIdx.x), padded_k = job.format->padded_k;
  const int count = min(kTensorVectors, job.queries.num_vectors - item.first_vector);
  // Vectors that are not there see nothing.
  if (thread < kTensorVectors)
    shared.rules[thread] = thread < count ? logit_rule(job.queries, item.first_vector + thread) : LogitRule{};
  for (int i = thread; i < kTensorVectors * padded_k; i += kCodedThreads) {
    const int x = i / padded_k, channel = i % padded_k;
    shared.queries[channel][x] =
        x < count ? job.queries.q[static_cast<std::int64_t>(item.first_vector + x) * padded_k + channel] : 0.f;
  }
  __syncthreads();
  const TokenSpan span = span_of(job, item);
  auto& of_warp = shared.warps[thread / 32];
  KiviWarp<Bits, Dims> state;
  state.clear();
  constexpr int kStep = kCodedWarps * kTileTokens;
  for (std::int64_t first = item.begin + thread / 32 * kTileTokens; first < item.end; first += kStep) {
    const CodedTile tile = tile_of(job, first);
    if (first + kStep < item.end) prefetch_tile(tile_of(job, first + kStep));
    float scores[kTokenFragments][4] = {}, bias[2];
    KiviWarp<Bits, Dims>::score(tile, shared.queries, of_warp, scores, bias);
    state.weigh(tile, span, shared.rules, scores, bias, of_warp);
    __syncwarp();
    state.accumulate(tile, of_warp);
    __syncwarp();
  }
  write_kivi_partials(state, shared.outputs, *job.format, count, partials, item.partial_row);
}

/// Split-KV attention over tokens of codec kivi: one item a block, up to 8 query vectors of it.
/// Source: Liu et al., KIVI, arXiv:2402.02750; Dao et al., Flash-Decoding (2023).
template <int Bits, int Dims>
__global__ void __launch_bounds__(kCodedThreads, Dims <= 128 ? 4 : 3)
    kivi_tensor_attention(const CodedJob* __restrict__ jobs, const WorkItem* __restrict__ items, Partials partials) {
  const WorkItem item = items[blockIdx.x];
  if constexpr (kForTensorCores) attend_kivi_item<Bits, Dims>(jobs[item.job], item, partials);
}

}  // namespace tandem::gpu::cuda
