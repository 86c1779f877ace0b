#pragma once

#include "gpu/cuda/kernels/elements.cuh"
#include "gpu/cuda/kernels/prefill_state.cuh"

// Prefill attention with fp32 units: of fp32 rows, and of all rows where there are no bf16 tensor cores.

namespace tandem::gpu::cuda {

inline constexpr int kPrefillThreads = 128;

/// The tile of a block: kVectors query vectors by kRows rows. What fits 64 KB, which is all that sm_75 has.
template <int Dims>
struct PrefillTile {
  static constexpr int kVectors = Dims <= 128 ? 64 : 32;
  static constexpr int kRows = Dims <= 128 ? 32 : 16;
  // Scores: thread (vector group, row group) has vectors group + 16 i and rows group + 8 j, which keeps banks apart.
  static constexpr int kRowGroups = 8, kVectorGroups = kPrefillThreads / kRowGroups;
  static constexpr int kVectorsEach = kVectors / kVectorGroups, kRowsEach = kRows / kRowGroups;
  // Values: a thread has 8 elements of kOutVectors neighbouring vectors.
  static constexpr int kDimLanes = Dims / 8;
  static constexpr int kOutVectors = kVectors * kDimLanes / kPrefillThreads;
  static constexpr int kStride = Dims + 4, kWeightStride = kVectors + 4;

  struct Shared {
    float4 queries[kVectors][kStride / 4];
    float4 rows[kRows][kStride / 4];  ///< keys, then values
    float4 weights[kRows][kWeightStride / 4];
    float kept[kVectors];  ///< what sums of earlier tiles are multiplied with
    PrefillScales scales[kVectors];
    PrefillRule rules[kVectors];
  };

  float out[kOutVectors][8];
  float largest[kVectorsEach], sum[kVectorsEach];

  __device__ void clear() {
#pragma unroll
    for (auto& of_vector : out) {
#pragma unroll
      for (float& x : of_vector) x = 0.f;
    }
#pragma unroll
    for (int i = 0; i < kVectorsEach; ++i) {
      largest[i] = -infinity();
      sum[i] = 0.f;
    }
  }

  __device__ static int row_group() { return static_cast<int>(threadIdx.x) % kRowGroups; }
  __device__ static int vector_group() { return static_cast<int>(threadIdx.x) / kRowGroups; }

  /// Weights of the tile that begins at row `first`, whose keys are in shared memory, in shared memory.
  __device__ void weigh(const PrefillRows& rows, float softcap, std::int32_t first, Shared& shared) {
    float scores[kVectorsEach][kRowsEach] = {};
    for (int d = 0; d < rows.padded_k / 4; ++d) {
      float4 k[kRowsEach];
#pragma unroll
      for (int j = 0; j < kRowsEach; ++j) k[j] = shared.rows[row_group() + kRowGroups * j][d];
#pragma unroll
      for (int i = 0; i < kVectorsEach; ++i) {
        const float4 q = shared.queries[vector_group() + kVectorGroups * i][d];
#pragma unroll
        for (int j = 0; j < kRowsEach; ++j) {
          float dot = fmaf(q.x, k[j].x, scores[i][j]);
          dot = fmaf(q.y, k[j].y, dot);
          dot = fmaf(q.z, k[j].z, dot);
          scores[i][j] = fmaf(q.w, k[j].w, dot);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kVectorsEach; ++i) {
      const int vector = vector_group() + kVectorGroups * i;
      const PrefillRule rule = shared.rules[vector];
      float most = largest[i];
#pragma unroll
      for (int j = 0; j < kRowsEach; ++j) {
        scores[i][j] = prefill_logit(rule, rows, softcap, first + row_group() + kRowGroups * j, scores[i][j]);
        most = fmaxf(most, scores[i][j]);
      }
#pragma unroll
      for (int offset = 1; offset < kRowGroups; offset *= 2)
        most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, offset, 32));
      const float base = most == -infinity() ? 0.f : most;
      const float kept = exp2f(largest[i] - base);
      largest[i] = most;
      float total = 0.f;
#pragma unroll
      for (int j = 0; j < kRowsEach; ++j) {
        const float weight = exp2f(scores[i][j] - base);
        total += weight;
        auto* of_row = reinterpret_cast<float*>(shared.weights[row_group() + kRowGroups * j]);
        of_row[vector] = weight;
      }
      sum[i] = fmaf(sum[i], kept, total);
      if (row_group() == 0) shared.kept[vector] = kept;
    }
  }

  /// Adds the weighted values of a tile, which are in shared memory.
  __device__ void accumulate(const Shared& shared) {
    const int lane = static_cast<int>(threadIdx.x) % kDimLanes, first = static_cast<int>(threadIdx.x) / kDimLanes;
#pragma unroll
    for (int x = 0; x < kOutVectors; ++x) {
      const float kept = shared.kept[first * kOutVectors + x];
#pragma unroll
      for (float& element : out[x]) element *= kept;
    }
#pragma unroll 2
    for (int row = 0; row < kRows; ++row) {
      const float4 low = shared.rows[row][lane], high = shared.rows[row][kDimLanes + lane];
#pragma unroll
      for (int quad = 0; quad < kOutVectors / 4; ++quad) {
        const float4 weights = shared.weights[row][first * (kOutVectors / 4) + quad];
        add(out[4 * quad], weights.x, low, high);
        add(out[4 * quad + 1], weights.y, low, high);
        add(out[4 * quad + 2], weights.z, low, high);
        add(out[4 * quad + 3], weights.w, low, high);
      }
    }
  }

  /// Joins the piece to the states of the vectors from `first_vector` on. All threads of the block call it.
  __device__ void join(const PrefillStates& states, std::int32_t padded_v, int split, std::int32_t first_vector,
                       bool is_first, Shared& shared) {
    const std::int64_t first_row = static_cast<std::int64_t>(split) * states.num_vectors + first_vector;
    const std::int32_t count = states.num_vectors - first_vector;
#pragma unroll
    for (int i = 0; i < kVectorsEach; ++i) {
      float total = sum[i];
#pragma unroll
      for (int offset = 1; offset < kRowGroups; offset *= 2) total += __shfl_xor_sync(kWholeWarp, total, offset, 32);
      const int vector = vector_group() + kVectorGroups * i;
      if (row_group() == 0 && vector < count)
        shared.scales[vector] = join_weights(states, first_row + vector, largest[i], total, is_first);
    }
    __syncthreads();
    const int lane = static_cast<int>(threadIdx.x) % kDimLanes, first = static_cast<int>(threadIdx.x) / kDimLanes;
#pragma unroll
    for (int x = 0; x < kOutVectors; ++x) {
      const int vector = first * kOutVectors + x;
      if (vector >= count) break;
      const PrefillScales scales = shared.scales[vector];
      float* target = states.out + (first_row + vector) * padded_v;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int element = i / 4 * (Dims / 2) + lane * 4 + i % 4;
        if (element >= padded_v) continue;
        const float before = is_first ? 0.f : target[element];
        target[element] = fmaf(before, scales.before, out[x][i] * scales.piece);
      }
    }
  }

 private:
  __device__ static void add(float (&sums)[8], float weight, const float4& low, const float4& high) {
    sums[0] = fmaf(weight, low.x, sums[0]);
    sums[1] = fmaf(weight, low.y, sums[1]);
    sums[2] = fmaf(weight, low.z, sums[2]);
    sums[3] = fmaf(weight, low.w, sums[3]);
    sums[4] = fmaf(weight, high.x, sums[4]);
    sums[5] = fmaf(weight, high.y, sums[5]);
    sums[6] = fmaf(weight, high.z, sums[6]);
    sums[7] = fmaf(weight, high.w, sums[7]);
  }
};

/// K, or V, of rows [first, first + Rows) as fp32; zeros beyond the piece. `source` is the first element of row 0's.
/// All threads of the block take part.
template <typename T, int Rows, int Quads>
__device__ void load_rows(const PrefillRows& rows, const std::byte* source, std::int32_t first, std::int32_t padded_dim,
                          float4 (&target)[Rows][Quads]) {
  const int chunks = padded_dim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < Rows * chunks; i += kPrefillThreads) {
    const int row = i / chunks, chunk = i % chunks;
    float x[8] = {};
    if (first + row < rows.count) {
      const std::byte* from = source + static_cast<std::int64_t>(first + row) * rows.row_bytes;
      unpack8(load_raw8<T>(from + chunk * 8 * T::kBytes), x);
    }
    target[row][2 * chunk] = {x[0], x[1], x[2], x[3]};
    target[row][2 * chunk + 1] = {x[4], x[5], x[6], x[7]};
  }
}

/// One split of the rows of a piece for the query vectors of a block: blocks (vectors, splits). Padded dimensions up to
/// Dims. Source: Dao, FlashAttention-2, arXiv:2307.08691.
template <typename T, int Dims>
__global__ void __launch_bounds__(kPrefillThreads)
    prefill_attention(PrefillRows rows, Queries queries, PrefillStates states, bool is_first) {
  using Tile = PrefillTile<Dims>;
  TANDEM_DYNAMIC_SHARED(memory);
  auto& shared = *reinterpret_cast<typename Tile::Shared*>(memory);
  const int thread = static_cast<int>(threadIdx.x), split = static_cast<int>(blockIdx.y);
  const std::int32_t first_vector = static_cast<std::int32_t>(blockIdx.x) * Tile::kVectors;
  if (thread < Tile::kVectors) shared.rules[thread] = prefill_rule(queries, rows, first_vector + thread);
  const int quads = rows.padded_k / 4;
  for (int i = thread; i < Tile::kVectors * quads; i += kPrefillThreads) {
    const std::int32_t vector = first_vector + i / quads;
    const auto* q = reinterpret_cast<const float4*>(queries.q + static_cast<std::int64_t>(vector) * rows.padded_k);
    shared.queries[i / quads][i % quads] = vector < queries.num_vectors ? q[i % quads] : float4{0.f, 0.f, 0.f, 0.f};
  }
  __syncthreads();
  const RowsSeen seen = rows_seen(shared.rules, rows, split, Tile::kRows);
  if (seen.begin >= seen.end && !is_first) return;
  Tile tile;
  tile.clear();
  for (std::int32_t first = seen.begin; first < seen.end; first += Tile::kRows) {
    load_rows<T>(rows, rows.rows, first, rows.padded_k, shared.rows);
    __syncthreads();
    tile.weigh(rows, queries.softcap, first, shared);
    __syncthreads();
    load_rows<T>(rows, rows.rows + rows.v_offset, first, rows.padded_v, shared.rows);
    __syncthreads();
    tile.accumulate(shared);
    __syncthreads();
  }
  tile.join(states, rows.padded_v, split, first_vector, is_first, shared);
}

}  // namespace tandem::gpu::cuda
