#pragma once

#include "gpu/cuda/kernels/logit.cuh"
#include "gpu/cuda/kernels/row_places.cuh"
#include "gpu/cuda/kernels/tensor_sums.cuh"

// Attention over rows of 16 bits on tensor cores. Rows are the long side of every product: scores are K times queries,
// and the result is V^T times weights, both (16, 16) times (16, 8). So eight query vectors waste nothing, and a lane's
// operands are what it reads of a row in 16 bytes, since which element of a product is which is free: K comes straight
// from memory, V by exchanging halves of pairs of rows.

namespace tandem::gpu::cuda {

inline constexpr int kRowTensorThreads = 128;

/// A warp takes 16 rows at a time, and all of a block's `Tiles` times eight query vectors. A lane has rows `row` and
/// `row` + 8 of the keys and of scores, and tokens token(i) of the values; of vectors 2 `column` + c, c < 2, of a tile
/// it has the scores [2 h + c] of row `row` + 8 h, and of each 64 elements of V it has element 8 `row` + i.
template <typename T, int Dims, int Tiles>
struct RowTensorWarp {
  static constexpr int kWarps = kRowTensorThreads / 32, kRows = 16, kVectors = 8 * Tiles;
  static constexpr int kKeyChunks = Dims / 32, kValueChunks = Dims / 64;  ///< chunks of 8 elements that a lane has
  static constexpr int kWords = Dims / 2 + 16;  ///< 16 more keep the banks of two vectors apart
  static constexpr int kStride = Dims + 2;

  struct Shared {
    union {
      alignas(16) unsigned queries[kTensorParts][kVectors][kWords];
      float out[kWarps][kVectors][kStride];  ///< at the end
    };
    RowPlace places[kWarps][kRows];
    LogitRule rules[kVectors];
    float units[kVectors];  ///< what the elements of a query are multiples of; of F16 alone
    float largest[kWarps][kVectors], sum[kWarps][kVectors];
  };

  float out[Tiles][kValueChunks][4][4];  ///< elements 2 j and 2 j + 1 of the chunk in [j], as scores
  float largest[Tiles][2], sum[Tiles][2];

  __device__ void clear() {
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int i = 0; i < kValueChunks * 16; ++i) out[t][i / 16][i / 4 % 4][i % 4] = 0.f;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        largest[t][c] = -infinity();
        sum[t][c] = 0.f;
      }
    }
  }

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int token(int column, int i) { return 2 * column + i % 2 + i / 2 * 8; }

  /// Query vectors [first, first + count) of a job; those that are not there are zero and see nothing. All threads of
  /// the block call it.
  __device__ static void load_queries(const Queries& queries, std::int32_t padded_k, std::int32_t first, int count,
                                      Shared& shared) {
    for (int v = warp(); v < kVectors; v += kWarps) {
      const float* query = v < count ? queries.q + static_cast<std::int64_t>(first + v) * padded_k : nullptr;
      const float unit = load_query<T>(query, padded_k, Dims / 2, {shared.queries[0][v], shared.queries[1][v]});
      if (threadIdx.x % 32 != 0) continue;
      shared.units[v] = unit;
      shared.rules[v] = v < count ? logit_rule(queries, first + v) : LogitRule{};
    }
  }

  /// Finds rows [index, index + kRows) of a job, the last one in place of those from `end` on; false where no query of
  /// `seen` sees one.
  __device__ static bool find_rows(const RowJob& job, std::int32_t index, std::int32_t end, const QuerySpan& seen,
                                   Shared& shared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    bool is_seen = false;
    __syncwarp();  // places of the rows before have been read
    if (lane < kRows) {
      RowPlace place = place_of(job, min(index + lane, end - 1));
      if (index + lane >= end) place.position = -1;  // which no query sees
      is_seen = place.position >= seen.first && place.position < seen.end;
      shared.places[warp()][lane] = place;
    }
    __syncwarp();
    return __any_sync(kWholeWarp, is_seen) != 0;
  }

  /// Attends the rows that were found.
  __device__ void attend(const RowJob& job, const Shared& shared) {
    const FragmentLane at = fragment_lane();
    const RowPlace(&places)[kRows] = shared.places[warp()];
    uint4 keys[2][kKeyChunks], values[4][kValueChunks];
    std::int64_t positions[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const RowPlace place = places[at.row + 8 * h];
      positions[h] = place.position;
#pragma unroll
      for (int l = 0; l < kKeyChunks; ++l) keys[h][l] = load_chunk(place.row, 4 * l + at.column, job.padded_k);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::byte* row = places[token(at.column, i)].row + job.v_offset;
#pragma unroll
      for (int l = 0; l < kValueChunks; ++l) values[i][l] = load_chunk(row, 8 * l + at.row, job.padded_v);
    }
    float scores[Tiles][4] = {}, kept[Tiles][2];
    unsigned weights[Tiles][kTensorParts][2];
    score(keys, shared, scores);
    weigh(positions, shared, scores, kept, weights);
    accumulate(values, weights, kept);
  }

  /// Writes the partials of the first `count` vectors from what all warps have. All threads of the block call it.
  __device__ void write(int count, std::int32_t dim_v, const Partials& partials, std::int64_t first_row,
                        Shared& shared) {
    const FragmentLane at = fragment_lane();
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float total = sum[t][c];
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2) total += __shfl_xor_sync(kWholeWarp, total, offset, 32);
        if (at.row != 0) continue;
        shared.largest[warp()][8 * t + 2 * at.column + c] = largest[t][c];
        shared.sum[warp()][8 * t + 2 * at.column + c] = total;
      }
    }
    __syncthreads();  // and queries are not read any more
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int vector = 8 * t + 2 * at.column + c;
        if (vector >= count) continue;
        const float most = largest_of(shared, vector);
        const float scale = most == -infinity() ? 0.f : exp2f(largest[t][c] - most);
#pragma unroll
        for (int l = 0; l < kValueChunks; ++l) {
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            const float x = out[t][l][i / 2][i % 2 * 2 + c] * scale;
            shared.out[warp()][vector][64 * l + 8 * at.row + i] = x;
          }
        }
      }
    }
    __syncthreads();
    for (int v = warp(); v < count; v += kWarps) {
      const float most = largest_of(shared, v);
      const bool empty = most == -infinity();
      float total = 0.f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += empty ? 0.f : shared.sum[w][v] * exp2f(shared.largest[w][v] - most);
      for (int d = static_cast<int>(threadIdx.x) % 32; d < dim_v; d += 32) {
        float x = 0.f;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) x += shared.out[w][v][d];
        partials.out[(first_row + v) * dim_v + d] = empty ? 0.f : x / total;
      }
      if (threadIdx.x % 32 == 0)
        partials.lse[first_row + v] = empty ? -infinity() : (most - kWeightBits<T> + log2f(total)) * kLn2;
    }
  }

 private:
  __device__ static uint4 load_chunk(const std::byte* elements, int chunk, std::int32_t padded_dim) {
    return load_once(elements + chunk * 16, 8 * chunk < padded_dim);
  }

  __device__ static float largest_of(const Shared& shared, int vector) {
    float most = shared.largest[0][vector];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) most = fmaxf(most, shared.largest[w][vector]);
    return most;
  }

  __device__ static void score(const uint4 (&keys)[2][kKeyChunks], const Shared& shared, float (&scores)[Tiles][4]) {
    const FragmentLane at = fragment_lane();
#pragma unroll
    for (int l = 0; l < kKeyChunks; ++l) {
      const uint4 &k = keys[0][l], &lower = keys[1][l];
      const unsigned first[4] = {k.x, lower.x, k.y, lower.y}, second[4] = {k.z, lower.z, k.w, lower.w};
#pragma unroll
      for (int t = 0; t < Tiles; ++t) {
#pragma unroll
        for (int part = 0; part < kTensorParts; ++part) {
          const auto* words = shared.queries[part][8 * t + at.row];
          const uint4 q = reinterpret_cast<const uint4*>(words)[4 * l + at.column];
          multiply_add(T{}, scores[t], first, q.x, q.y);
          multiply_add(T{}, scores[t], second, q.z, q.w);
        }
      }
    }
  }

  /// Turns scores into weights, as operands of accumulate(); kept: of what was there before, what still counts.
  __device__ void weigh(const std::int64_t (&positions)[2], const Shared& shared, float (&scores)[Tiles][4],
                        float (&kept)[Tiles][2], unsigned (&weights)[Tiles][kTensorParts][2]) {
    const FragmentLane at = fragment_lane();
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int vector = 8 * t + 2 * at.column + c;
        const LogitRule& rule = shared.rules[vector];
        float most = largest[t][c];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& x = scores[t][2 * h + c];
          if constexpr (kHasSmallRange<T>) x *= shared.units[vector];
          x = logit2(rule, positions[h], x);
          most = fmaxf(most, x);
        }
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2)
          most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, offset, 32));
        const float base = most == -infinity() ? 0.f : most;
        kept[t][c] = exp2f(largest[t][c] - base);
        largest[t][c] = most;
        float total = 0.f;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& x = scores[t][2 * h + c];
          x = exp2f(x - base + kWeightBits<T>);
          total += x;
        }
        sum[t][c] = fmaf(sum[t][c], kept[t][c], total);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const TensorSums sums = tensor_sums<T>(scores[t][2 * h], scores[t][2 * h + 1]);
#pragma unroll
        for (int part = 0; part < kTensorParts; ++part) weights[t][part][h] = transposed(sums.parts[part]);
      }
    }
  }

  /// Adds the weighted values. Their sums start from nothing: tensor cores round towards 0.
  __device__ void accumulate(const uint4 (&values)[4][kValueChunks], const unsigned (&weights)[Tiles][kTensorParts][2],
                             const float (&kept)[Tiles][2]) {
#pragma unroll
    for (int l = 0; l < kValueChunks; ++l) {
      unsigned words[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        words[i][0] = values[i][l].x;
        words[i][1] = values[i][l].y;
        words[i][2] = values[i][l].z;
        words[i][3] = values[i][l].w;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const unsigned elements[4] = {
            __byte_perm(words[0][j], words[1][j], 0x5410), __byte_perm(words[0][j], words[1][j], 0x7632),
            __byte_perm(words[2][j], words[3][j], 0x5410), __byte_perm(words[2][j], words[3][j], 0x7632)};
#pragma unroll
        for (int t = 0; t < Tiles; ++t) {
          float sums[4] = {};
#pragma unroll
          for (int part = 0; part < kTensorParts; ++part)
            multiply_add(T{}, sums, elements, weights[t][part][0], weights[t][part][1]);
#pragma unroll
          for (int i = 0; i < 4; ++i) out[t][l][j][i] = fmaf(out[t][l][j][i], kept[t][i % 2], sums[i]);
        }
      }
    }
  }
};

template <typename T, int Dims, int Tiles>
__device__ void attend_rows_by_tensors(const RowJob& job, const WorkItem& item, const Partials& partials) {
  using Warp = RowTensorWarp<T, Dims, Tiles>;
  TANDEM_SHARED(typename Warp::Shared, shared);
  const int count = min(Warp::kVectors, job.queries.num_vectors - item.first_vector);
  Warp::load_queries(job.queries, job.padded_k, item.first_vector, count, shared);
  __syncthreads();
  // Spans of later queries neither begin nor end before those of earlier ones.
  const QuerySpan seen{0, shared.rules[0].span.first, shared.rules[count - 1].span.end};
  Warp warp;
  warp.clear();
  const auto end = static_cast<std::int32_t>(item.end);
  for (auto first = static_cast<std::int32_t>(item.begin) + Warp::kRows * Warp::warp(); first < end;
       first += Warp::kRows * Warp::kWarps) {
    if (Warp::find_rows(job, first, end, seen, shared)) warp.attend(job, shared);
  }
  warp.write(count, job.dim_v, partials, item.partial_row, shared);
}

/// As row_attention(), on tensor cores: 8 * Tiles query vectors of an item, padded dimensions up to Dims.
/// Source: Dao et al., Flash-Decoding (2023); Dao, FlashAttention-2, arXiv:2307.08691.
template <typename T, int Dims, int Tiles>
__global__ void __launch_bounds__(kRowTensorThreads)
    row_tensor_attention(const RowJob* __restrict__ jobs, const WorkItem* __restrict__ items, Partials partials) {
  const WorkItem item = items[blockIdx.x];
  if constexpr (kForTensorCores) attend_rows_by_tensors<T, Dims, Tiles>(jobs[item.job], item, partials);
}

}  // namespace tandem::gpu::cuda
