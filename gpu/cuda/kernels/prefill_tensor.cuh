#pragma once

#include "gpu/cuda/kernels/prefill_state.cuh"
#include "gpu/cuda/kernels/tensor_sums.cuh"

// Prefill attention on tensor cores, of rows of 16 bits, as they are.

namespace tandem::gpu::cuda {

/// A warp has 16 query vectors, a block kVectors. A lane has vectors `row` and `row` + 8 of its warp; of a tile's
/// scores rows 8 n + 2 column + c in scores[n][2 h + c], and elements 8 n + 2 column + c of the values likewise.
template <typename T, int Dims>
struct PrefillWarp {
  static constexpr int kVectors = Dims <= 128 ? 64 : 32;
  static constexpr int kRows = Dims <= 128 ? 64 : 32;
  static constexpr int kThreads = 2 * kVectors;
  static constexpr int kWords = Dims / 2 + 4, kPairs = kRows / 2 + 4;  // 4 more keep the banks of 8 rows apart

  /// The weights of a tile as operands: the two numbers whose sum they are.
  struct Weights {
    unsigned parts[kTensorParts][kRows / 16][4];
  };

  struct Shared {
    unsigned queries[kTensorParts][kVectors][kWords];  ///< the two numbers whose sum is an element
    unsigned keys[kRows][kWords];
    unsigned values[Dims][kPairs];  ///< two neighbouring rows of an element
    float units[kVectors];          ///< what the elements of a query are multiples of; of F16 alone
    PrefillRule rules[kVectors];
  };

  float out[Dims / 8][4];
  float largest[2], sum[2];
  float kept[2];  ///< of what was there before the tile

  __device__ void clear() {
#pragma unroll
    for (auto& of_fragment : out) {
#pragma unroll
      for (float& x : of_fragment) x = 0.f;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      largest[h] = -infinity();
      sum[h] = 0.f;
    }
  }

  __device__ static int first_vector() { return static_cast<int>(threadIdx.x) / 32 * 16; }

  /// The 16 vectors of the warp, of which the first is vector `first` of all.
  __device__ static void load_queries(const Queries& queries, std::int32_t padded_k, std::int32_t first,
                                      Shared& shared) {
    for (int v = first_vector(); v < first_vector() + 16; ++v) {
      const std::int32_t vector = first + v;
      const float* query =
          vector < queries.num_vectors ? queries.q + static_cast<std::int64_t>(vector) * padded_k : nullptr;
      const float unit = load_query<T>(query, padded_k, padded_k / 2, {shared.queries[0][v], shared.queries[1][v]});
      if (kHasSmallRange<T> && threadIdx.x % 32 == 0) shared.units[v] = unit;
    }
  }

  /// Rows [first, first + kRows); zeros beyond the piece. By all threads of the block.
  __device__ static void load_keys(const PrefillRows& rows, std::int32_t first, Shared& shared) {
    const int chunks = rows.padded_k / 8;
    for (int i = static_cast<int>(threadIdx.x); i < kRows * chunks; i += kThreads) {
      const int row = i / chunks, chunk = i % chunks;
      uint4 words{0, 0, 0, 0};
      if (first + row < rows.count)
        words = load_words(rows.rows + static_cast<std::int64_t>(first + row) * rows.row_bytes, chunk);
      reinterpret_cast<uint4*>(shared.keys[row])[chunk] = words;
    }
  }

  __device__ static void load_values(const PrefillRows& rows, std::int32_t first, Shared& shared) {
    const int chunks = rows.padded_v / 8;
    for (int i = static_cast<int>(threadIdx.x); i < kRows / 2 * chunks; i += kThreads) {
      const int pair = i % (kRows / 2), chunk = i / (kRows / 2);  // neighbouring threads write neighbouring words
      const std::int32_t row = first + 2 * pair;
      const std::byte* source = rows.rows + rows.v_offset + static_cast<std::int64_t>(row) * rows.row_bytes;
      uint4 even{0, 0, 0, 0}, odd{0, 0, 0, 0};
      if (row < rows.count) even = load_words(source, chunk);
      if (row + 1 < rows.count) odd = load_words(source + rows.row_bytes, chunk);
      const unsigned a[4] = {even.x, even.y, even.z, even.w}, b[4] = {odd.x, odd.y, odd.z, odd.w};
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        shared.values[8 * chunk + 2 * w][pair] = __byte_perm(a[w], b[w], 0x5410);
        shared.values[8 * chunk + 2 * w + 1][pair] = __byte_perm(a[w], b[w], 0x7632);
      }
    }
  }

  __device__ static void score(std::int32_t padded_k, const Shared& shared, float (&scores)[kRows / 8][4]) {
    const FragmentLane at = fragment_lane();
    const int vector = first_vector() + at.row;
#pragma unroll 1
    for (int word = at.column; word < padded_k / 2; word += 8) {
      unsigned q[kTensorParts][4];
#pragma unroll
      for (int part = 0; part < kTensorParts; ++part) {
        q[part][0] = shared.queries[part][vector][word];
        q[part][1] = shared.queries[part][vector + 8][word];
        q[part][2] = shared.queries[part][vector][word + 4];
        q[part][3] = shared.queries[part][vector + 8][word + 4];
      }
#pragma unroll
      for (int n = 0; n < kRows / 8; ++n) {
        const unsigned b0 = shared.keys[8 * n + at.row][word], b1 = shared.keys[8 * n + at.row][word + 4];
        multiply_add(T{}, scores[n], q[0], b0, b1);
        multiply_add(T{}, scores[n], q[1], b0, b1);
      }
    }
  }

  /// Turns the scores of the tile that begins at row `first` into weights, as operands of accumulate().
  __device__ void weigh(const PrefillRows& rows, float softcap, std::int32_t first, const Shared& shared,
                        float (&scores)[kRows / 8][4], Weights& weights) {
    const FragmentLane at = fragment_lane();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int vector = first_vector() + at.row + 8 * h;
      const PrefillRule rule = shared.rules[vector];
      float most = largest[h];
#pragma unroll
      for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& score = scores[n][2 * h + c];
          if constexpr (kHasSmallRange<T>) score *= shared.units[vector];
          score = prefill_logit(rule, rows, softcap, first + 8 * n + 2 * at.column + c, score);
          most = fmaxf(most, score);
        }
      }
#pragma unroll
      for (int offset = 1; offset < 4; offset *= 2) most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, offset, 32));
      const float base = most == -infinity() ? 0.f : most;
      kept[h] = exp2f(largest[h] - base);
      largest[h] = most;
      float total = 0.f;
#pragma unroll
      for (int n = 0; n < kRows / 8; ++n) {
        const float even = exp2f(scores[n][2 * h] - base + kWeightBits<T>);
        const float odd = exp2f(scores[n][2 * h + 1] - base + kWeightBits<T>);
        total += even + odd;
        const TensorSums sums = tensor_sums<T>(even, odd);
#pragma unroll
        for (int part = 0; part < kTensorParts; ++part) weights.parts[part][n / 2][n % 2 * 2 + h] = sums.parts[part];
      }
      sum[h] = fmaf(sum[h], kept[h], total);
    }
  }

  /// Adds the weighted values of a tile. Its sums start from nothing: tensor cores round towards 0.
  __device__ void accumulate(std::int32_t padded_v, const Shared& shared, const Weights& weights) {
    const FragmentLane at = fragment_lane();
#pragma unroll
    for (int n = 0; n < Dims / 8; ++n) {
      if (8 * n >= padded_v) break;
      float sums[4] = {};
#pragma unroll
      for (int t = 0; t < kRows / 16; ++t) {
        const unsigned* pairs = shared.values[8 * n + at.row] + 8 * t + at.column;
#pragma unroll
        for (int part = 0; part < kTensorParts; ++part)
          multiply_add(T{}, sums, weights.parts[part][t], pairs[0], pairs[4]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] = fmaf(out[n][i], kept[i / 2], sums[i]);
    }
  }

  /// Joins the piece to the states of the warp's vectors, of which the first is vector `first` of all.
  __device__ void join(const PrefillStates& states, std::int32_t padded_v, int split, std::int32_t first,
                       bool is_first) {
    const FragmentLane at = fragment_lane();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const std::int32_t vector = first + first_vector() + at.row + 8 * h;
      const bool is_there = vector < states.num_vectors;
      const std::int64_t row = static_cast<std::int64_t>(split) * states.num_vectors + vector;
      float total = sum[h];
#pragma unroll
      for (int offset = 1; offset < 4; offset *= 2) total += __shfl_xor_sync(kWholeWarp, total, offset, 32);
      PrefillScales scales{};
      if (at.column == 0 && is_there) scales = join_weights(states, row, largest[h] - kWeightBits<T>, total, is_first);
      scales.before = __shfl_sync(kWholeWarp, scales.before, at.row * 4, 32);
      scales.piece = __shfl_sync(kWholeWarp, scales.piece, at.row * 4, 32);
      if (!is_there) continue;
      auto* target = reinterpret_cast<float2*>(states.out + row * padded_v) + at.column;
#pragma unroll
      for (int n = 0; n < Dims / 8; ++n) {
        if (8 * n >= padded_v) break;
        const float2 before = is_first ? float2{0.f, 0.f} : target[4 * n];
        target[4 * n] = {fmaf(before.x, scales.before, out[n][2 * h] * scales.piece),
                         fmaf(before.y, scales.before, out[n][2 * h + 1] * scales.piece)};
      }
    }
  }

 private:
  __device__ static uint4 load_words(const std::byte* row, int chunk) {
    return reinterpret_cast<const uint4*>(row)[chunk];
  }
};

template <typename T, int Dims>
__device__ void attend_piece(const PrefillRows& rows, const Queries& queries, const PrefillStates& states,
                             bool is_first) {
  using Warp = PrefillWarp<T, Dims>;
  TANDEM_DYNAMIC_SHARED(memory);
  auto& shared = *reinterpret_cast<typename Warp::Shared*>(memory);
  const int thread = static_cast<int>(threadIdx.x), split = static_cast<int>(blockIdx.y);
  const std::int32_t first_vector = static_cast<std::int32_t>(blockIdx.x) * Warp::kVectors;
  if (thread < Warp::kVectors) shared.rules[thread] = prefill_rule(queries, rows, first_vector + thread);
  Warp::load_queries(queries, rows.padded_k, first_vector, shared);
  __syncthreads();
  const RowsSeen seen = rows_seen(shared.rules, rows, split, Warp::kRows);
  if (seen.begin >= seen.end && !is_first) return;
  Warp warp;
  warp.clear();
  for (std::int32_t first = seen.begin; first < seen.end; first += Warp::kRows) {
    Warp::load_keys(rows, first, shared);
    Warp::load_values(rows, first, shared);
    __syncthreads();
    float scores[Warp::kRows / 8][4] = {};
    typename Warp::Weights weights;
    Warp::score(rows.padded_k, shared, scores);
    warp.weigh(rows, queries.softcap, first, shared, scores, weights);
    warp.accumulate(rows.padded_v, shared, weights);
    __syncthreads();
  }
  warp.join(states, rows.padded_v, split, first_vector, is_first);
}

/// As prefill_attention(), on tensor cores. Source: Dao, FlashAttention-2, arXiv:2307.08691.
template <typename T, int Dims>
__global__ void __launch_bounds__(PrefillWarp<T, Dims>::kThreads)
    prefill_tensor_attention(PrefillRows rows, Queries queries, PrefillStates states, bool is_first) {
  if constexpr (kForTensorCores) attend_piece<T, Dims>(rows, queries, states, is_first);
}

}  // namespace tandem::gpu::cuda
