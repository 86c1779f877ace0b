#pragma once

#include "cpu/codec/qjl_layout.h"
#include "gpu/cuda/kernels/qjl_signs.cuh"
#include "gpu/cuda/kernels/value_sums.cuh"

// Attention over blocks of QJL, see cpu/codec/qjl.h. A prepared query is its sketch S^T q.

namespace tandem::gpu::cuda {

inline constexpr int kQjlThreads = 128;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 750
inline constexpr int kQjlBlocks = 3;  // a V100 needs more registers for the same code
#else
inline constexpr int kQjlBlocks = 4;  ///< that a processor should hold
#endif
inline constexpr int kQjlWarps = kQjlThreads / 32;
inline constexpr int kQjlColumns = kQjlWarps * kWarpColumns;  ///< of a sketch that a block of threads has tables of
inline constexpr int kQjlGroups = cpu::kQjlBlockRows / cpu::kQjlGroupRows;
inline constexpr int kQjlMostValueBytes = cpu::kQjlBlockRows * (kMostGroups / 2 * 16 + 4 * kMostGroups);

/// What a block of threads reads of its job, for Vectors query vectors of it.
template <int Vectors>
struct QjlQuery {
  const cpu::BlockFormat& format;
  const float* sketches[Vectors];
  const Floats<Vectors>* queries;  ///< (dim_k), in shared memory, with outlier channels

  [[nodiscard]] __device__ bool has_outliers() const { return format.outliers != 0; }
  /// Tables outlive a group of tokens where nothing has to make room and no outliers differ.
  [[nodiscard]] __device__ bool keeps_tables() const { return !has_outliers() && format.sketch_bits <= kQjlColumns; }

  /// Of the outlier channels `ids`, columns [column, column + 2) of the sketches.
  __device__ void sketch_outliers(const std::byte* ids, int column, float2 (&sketch)[Vectors]) const {
#pragma unroll
    for (int v = 0; v < Vectors; ++v) sketch[v] = {0.f, 0.f};
    for (int o = 0; o < format.outliers; ++o) {
      const int channel = static_cast<int>(ids[o]);
      const float2 direction =
          *reinterpret_cast<const float2*>(format.projection + channel * format.sketch_bits + column);
      const Floats<Vectors> query = queries[channel];
#pragma unroll
      for (int v = 0; v < Vectors; ++v) {
        sketch[v].x = fmaf(query.x[v], direction.x, sketch[v].x);
        sketch[v].y = fmaf(query.x[v], direction.y, sketch[v].y);
      }
    }
  }
};

/// Tables of a warp's columns from `column` on; `outlier_ids` are those of a group of tokens. By the whole warp.
template <int Vectors>
__device__ inline void make_qjl_tables(const QjlQuery<Vectors>& query, const std::byte* outlier_ids, int column,
                                       SignTables<Vectors>& inlier, SignTables<Vectors>& outlier) {
  const int at = column + 2 * (static_cast<int>(threadIdx.x) % 32);
  __syncwarp();  // nobody reads the former tables any more
  float2 sketch[Vectors];
#pragma unroll
  for (int v = 0; v < Vectors; ++v) sketch[v] = *reinterpret_cast<const float2*>(query.sketches[v] + at);
  if (query.has_outliers()) {
    float2 of_outliers[Vectors];
    query.sketch_outliers(outlier_ids, at, of_outliers);
    make_sign_tables<Vectors>(of_outliers, outlier);
#pragma unroll
    for (int v = 0; v < Vectors; ++v) sketch[v] = {sketch[v].x - of_outliers[v].x, sketch[v].y - of_outliers[v].y};
  }
  make_sign_tables<Vectors>(sketch, inlier);
}

/// A warp's part of the scores of a group of tokens, whose lanes are its tokens, to scores (Vectors, kTileTokens).
template <int Vectors>
__device__ inline void qjl_group_scores(const QjlQuery<Vectors>& query, const std::byte* block, int group,
                                        SignTables<Vectors>& inlier, SignTables<Vectors>& outlier,
                                        float (&scores)[Vectors][kTileTokens]) {
  const cpu::BlockFormat& f = query.format;
  const int row = group * cpu::kQjlGroupRows + static_cast<int>(threadIdx.x) % 32;
  const std::byte* norms = block + f.k_side;
  const std::byte* ids = norms + 2 * cpu::kQjlNormBytes + group * f.outliers;
  const auto* codes =
      reinterpret_cast<const unsigned*>(block + f.k_codes + row / cpu::kQjlWordRows * cpu::kQjlWordRows * f.k_stride) +
      row % cpu::kQjlWordRows;
  float sums[Vectors] = {}, outlier_sums[Vectors] = {};
  const int first = static_cast<int>(threadIdx.x) / 32 * kWarpColumns;
  for (int column = first; column < f.sketch_bits; column += kQjlColumns) {
    const bool has_outlier_bits = column < f.outlier_bits;
    unsigned words[2], outlier_words[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      words[half] = codes[(column / 32 + half) * cpu::kQjlWordRows];
      outlier_words[half] = has_outlier_bits ? codes[((f.sketch_bits + column) / 32 + half) * cpu::kQjlWordRows] : 0u;
    }
    if (!query.keeps_tables()) make_qjl_tables<Vectors>(query, ids, column, inlier, outlier);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      add_signed<Vectors>(inlier, half, words[half], sums);
      if (has_outlier_bits) add_signed<Vectors>(outlier, half, outlier_words[half], outlier_sums);
    }
  }
  const auto* of_token = reinterpret_cast<const std::uint16_t*>(norms) + row;
  const float factor = f.k_factor * group_scale(of_token[0]);
  float outlier_factor = 0.f;
  if (query.has_outliers()) {
    outlier_factor = f.k_factor * static_cast<float>(f.sketch_bits) / static_cast<float>(f.outlier_bits) *
                     group_scale(of_token[cpu::kQjlBlockRows]);
  }
#pragma unroll
  for (int v = 0; v < Vectors; ++v) scores[v][row] = fmaf(factor, sums[v], outlier_factor * outlier_sums[v]);
}

template <int Vectors>
struct QjlShared {
  SharedSoftmax<Vectors, kQjlWarps> softmax;
  union {
    SignTables<Vectors> inlier[kQjlWarps];
    float sums[4 * kQjlThreads];
  };
  union {
    SignTables<Vectors> outlier[kQjlWarps];  ///< made anew for each tile, where there are any
    GroupWeights<Vectors> weights;
  };
  uint4 values[kQjlMostValueBytes / 16];
  float group_sums[kMostGroups];
  Floats<Vectors> queries[256];
};

/// Split-KV attention over coded tokens: one item a block, Vectors query vectors of it: those from blockIdx.y * Vectors
/// on of what the item has.
template <int Vectors>
__global__ void __launch_bounds__(kQjlThreads, kQjlBlocks)
    qjl_attention(const CodedJob* __restrict__ jobs, const WorkItem* __restrict__ items, Partials partials) {
  TANDEM_SHARED(QjlShared<Vectors>, shared);
  const WorkItem item = items[blockIdx.x];
  const CodedJob& job = jobs[item.job];
  const cpu::BlockFormat& format = *job.format;
  const int skipped = static_cast<int>(blockIdx.y) * Vectors;
  const std::int32_t first = item.first_vector + skipped;
  if (first >= job.queries.num_vectors) return;
  const int count = min(Vectors, job.queries.num_vectors - first);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  shared.softmax.clear(job.queries, first, count);
  QjlQuery<Vectors> query{format, {}, shared.queries};
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const std::int64_t vector = first + min(v, count - 1);
    query.sketches[v] = job.prepared + vector * format.sketch_bits;
    for (int c = static_cast<int>(threadIdx.x); c < format.dim_k && query.has_outliers(); c += kQjlThreads)
      shared.queries[c].x[v] = job.queries.q[vector * format.padded_k + c];
  }
  if (query.keeps_tables() && warp * kWarpColumns < format.sketch_bits)
    make_qjl_tables<Vectors>(query, nullptr, warp * kWarpColumns, shared.inlier[warp], shared.outlier[warp]);
  const ValueGroups values(format);
  const auto* staged = reinterpret_cast<const std::byte*>(shared.values);
  const TokenSpan span = span_of(job, item);
  ValueSums<Vectors, kQjlThreads> sums;
  sums.clear();
  for (std::int64_t index = item.begin; index < item.end; index += kTileTokens) {
    const std::byte* block = tile_of(job, index).block;
    __syncthreads();
    const BytesAhead<kQjlMostValueBytes, kQjlThreads> ahead(block + format.v_codes, values.bytes);
#pragma unroll 1
    for (int group = 0; group < kQjlGroups; ++group) {
      qjl_group_scores<Vectors>(query, block, group, shared.inlier[warp], shared.outlier[warp],
                                shared.softmax.scores[warp]);
    }
    ahead.store(values.bytes, shared.values);
    __syncthreads();
    shared.softmax.weigh(job.origin + index, span);
    __syncthreads();
    sums.fold(values, staged, shared.softmax, shared.weights);
    __syncthreads();
    sums.add(values, staged, shared.softmax, shared.weights);
  }
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const std::int64_t row = item.partial_row + skipped + v;
    float* out = v < count ? partials.out + row * format.dim_v : nullptr;
    sums.write(values, v, shared.softmax.normaliser(v), shared.sums, shared.group_sums, out);
    if (out != nullptr && threadIdx.x == 0) partials.lse[row] = shared.softmax.lse(v);
  }
}

inline constexpr int kSketchThreads = 128;
inline constexpr int kSketchVectors = 4;

/// The sketches of jobs' queries: a block for one job, kSketchVectors vectors and kSketchThreads columns.
__global__ void __launch_bounds__(kSketchThreads)
    qjl_sketch(const CodedJob* __restrict__ jobs, const float* __restrict__ projection, std::int32_t dim_k,
               std::int32_t padded_k, std::int32_t sketch_bits) {
  const CodedJob& job = jobs[blockIdx.x];
  const std::int32_t first = static_cast<std::int32_t>(blockIdx.y) * kSketchVectors;
  const auto column = static_cast<std::int32_t>(blockIdx.z * kSketchThreads + threadIdx.x);
  if (first >= job.queries.num_vectors || column >= sketch_bits) return;
  const int count = min(kSketchVectors, job.queries.num_vectors - first);
  const float* query = job.queries.q + static_cast<std::int64_t>(first) * padded_k;
  float sums[kSketchVectors] = {};
  for (std::int32_t c = 0; c < dim_k; ++c) {
    const float direction = projection[c * sketch_bits + column];
#pragma unroll
    for (int v = 0; v < kSketchVectors; ++v) {
      if (v < count) sums[v] = fmaf(query[v * padded_k + c], direction, sums[v]);
    }
  }
#pragma unroll
  for (int v = 0; v < kSketchVectors; ++v) {
    if (v < count) job.prepared[static_cast<std::int64_t>(first + v) * sketch_bits + column] = sums[v];
  }
}

}  // namespace tandem::gpu::cuda
