#pragma once

#include "gpu/cuda/kernels/nuq_layout.cuh"
#include "gpu/cuda/kernels/shared_softmax.cuh"

// Scores of codec nuq, whose keys are coded before RoPE. The warps of a block of threads share the pairs of channels of
// a tile; a lane has two tokens, 16 apart, for each of them. Keys are turned by their place among 16 tokens, of which
// there is a table, and queries are turned back by the position of each 16, a few pairs at a time.

namespace tandem::gpu::cuda {

inline constexpr int kTurnedPairs = 8;  ///< of a warp at a time
inline constexpr int kTileSixteens = kTileTokens / 16;
static_assert(kTurnedPairs * kTileSixteens == 32, "a lane turns one of them");

/// Codes of a pair's channels of two tokens, 32 half + lane and the one 16 later: fields 4 channel + 2 half and the
/// next. Bits above a code do not matter: a table repeats its levels up to 16. Four bits, or fewer.
template <bool IsFour>
struct KeyCodes {
  unsigned lines[2];
  unsigned upper;  ///< of 3 bits

  __device__ KeyCodes(const std::byte* unit, int bits, int half, int lane) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int line = IsFour ? 2 * c + half : c;
      lines[c] = static_cast<unsigned>(unit[line * cpu::kNuqLanes + lane]) >> (IsFour ? 0 : 4 * half);
    }
    upper = bits == 3 ? static_cast<unsigned>(unit[2 * cpu::kNuqLanes + lane]) >> 2 * half : 0u;
  }
  [[nodiscard]] __device__ unsigned code(int channel, int later) const {
    if (IsFour) return lines[channel] >> 4 * later & 15u;
    return (lines[channel] >> 2 * later & 3u) | (upper >> (4 * channel + later) & 1u) << 2;
  }
};

/// A query's elements of a pair, for each vector.
template <int Vectors>
struct QueryPair {
  Floats<Vectors> first;
  Floats<Vectors> second;
};

/// Queries turned back by the position of each 16 tokens of a tile, for some pairs of a warp.
template <int Vectors>
struct TurnedQueries {
  QueryPair<Vectors> of[kTurnedPairs][kTileSixteens];
};

/// Turned back by the angle of `r`.
template <int Vectors>
__device__ inline QueryPair<Vectors> turned_back(const QueryPair<Vectors>& query, const Rotation<float>& r) {
  QueryPair<Vectors> turned;
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    turned.first.x[v] = fmaf(query.second.x[v], r.sine, query.first.x[v] * r.cosine);
    turned.second.x[v] = fmaf(-query.first.x[v], r.sine, query.second.x[v] * r.cosine);
  }
  return turned;
}

/// By how much a key of a pair turns at each of 16 places.
struct PairRotations {
  float2 of[cpu::kNuqLanes];  ///< cosine, sine
};

/// By all threads; a barrier comes after it.
template <int Threads>
__device__ inline void make_rotations(const cpu::BlockFormat& format, PairRotations* rotations) {
  for (int i = static_cast<int>(threadIdx.x); i < format.padded_k / 2 * cpu::kNuqLanes; i += Threads) {
    const int pair = i / cpu::kNuqLanes, place = i % cpu::kNuqLanes;
    const auto r = rotation<float>(format.rope_turns[pair] * static_cast<std::uint64_t>(place));
    rotations[pair].of[place] = {r.cosine, r.sine};
  }
}

/// One warp's share of the keys of a tile: pairs Warps apart, from the warp's number on.
template <int Vectors, int Warps>
struct NuqKeys {
  const cpu::BlockFormat& format;
  const QueryPair<Vectors>* queries;  ///< (pairs)
  const float* levels;                ///< (padded_k, kNuqLevels)
  const PairRotations* rotations;     ///< (pairs)

  /// The first token of a lane; the other is the one 16 later.
  [[nodiscard]] __device__ static int token() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return lane / cpu::kNuqLanes * 32 + lane % cpu::kNuqLanes;
  }

  /// Adds the products of the lane's tokens of a tile, whose codes of K lie at `codes`. By the whole warp.
  template <bool IsFour>
  __device__ void score(const std::byte* codes, std::int64_t position, TurnedQueries<Vectors>& turned,
                        float (&sums)[2][Vectors]) const {
    const int pairs = format.padded_k / 2, lane = static_cast<int>(threadIdx.x) % 32;
    for (int first = static_cast<int>(threadIdx.x) / 32; first < pairs; first += kTurnedPairs * Warps) {
      __syncwarp();  // nobody reads the former ones any more
      const int sixteen = lane / kTurnedPairs, pair = first + lane % kTurnedPairs * Warps;
      if (pair < pairs) {
        const auto at = static_cast<std::uint64_t>(position + sixteen * cpu::kNuqLanes);
        turned.of[lane % kTurnedPairs][sixteen] =
            turned_back<Vectors>(queries[pair], rotation<float>(format.rope_turns[pair] * at));
      }
      __syncwarp();
      score_pairs<IsFour>(codes, first, min(kTurnedPairs, (pairs - first + Warps - 1) / Warps), turned, sums);
    }
  }

  /// Adds the warp's outliers of both tokens, of which it has one in Warps.
  __device__ void add_residuals(const std::byte* block, std::int64_t position, float (&sums)[2][Vectors]) const {
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      const int row = token() + u * cpu::kNuqLanes;
      for (int o = static_cast<int>(threadIdx.x) / 32; o < format.outliers; o += Warps) {
        const unsigned word = key_residuals(format, block)[row * format.outliers + o];
        const float residual = residual_of(word);
        if (residual == 0.f) continue;  // most of the room is unused
        const int pair = place_of(word) / 2;
        const auto turned = turned_back<Vectors>(
            queries[pair], rotation<float>(format.rope_turns[pair] * static_cast<std::uint64_t>(position + row)));
        const bool is_second = place_of(word) % 2 != 0;
#pragma unroll
        for (int v = 0; v < Vectors; ++v)
          sums[u][v] = fmaf(residual, is_second ? turned.second.x[v] : turned.first.x[v], sums[u][v]);
      }
    }
  }

 private:
  template <bool IsFour>
  __device__ void score_pairs(const std::byte* codes, int first, int count, const TurnedQueries<Vectors>& turned,
                              float (&sums)[2][Vectors]) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, half = lane / cpu::kNuqLanes, place = lane % cpu::kNuqLanes;
#pragma unroll 2
    for (int j = 0; j < count; ++j) {
      const int pair = first + j * Warps;
      const KeyCodes<IsFour> of_tokens(codes + pair * cpu::kNuqLanes * format.bits, format.bits, half, place);
      const float* of_pair = levels + pair * 2 * cpu::kNuqLevels;
      const float2 r = rotations[pair].of[place];
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const float a = of_pair[of_tokens.code(0, u)];
        const float b = of_pair[cpu::kNuqLevels + of_tokens.code(1, u)];
        const float turned_a = fmaf(-b, r.y, a * r.x), turned_b = fmaf(a, r.y, b * r.x);
        const QueryPair<Vectors> query = turned.of[j][2 * half + u];
#pragma unroll
        for (int v = 0; v < Vectors; ++v)
          sums[u][v] = fmaf(query.first.x[v], turned_a, fmaf(query.second.x[v], turned_b, sums[u][v]));
      }
    }
  }
};

}  // namespace tandem::gpu::cuda
