#pragma once

#include "gpu/cuda/kernels/elements.cuh"
#include "gpu/cuda/kernels/logit.cuh"
#include "gpu/cuda/kernels/online_softmax.cuh"
#include "gpu/cuda/kernels/row_places.cuh"
#include "gpu/cuda/kernels/tensor_core.cuh"

namespace tandem::gpu::cuda {

inline constexpr int kRowThreads = 128;
inline constexpr int kRowsAtOnce = 2;  ///< of one group of lanes: their loads are under way together

/// Query vectors [first, first + count) of a job, padded with zeros.
template <int Lanes, int Vectors>
__device__ void load_queries(const RowJob& job, std::int32_t first, int count, float4 (&target)[Vectors][2 * Lanes]) {
  for (int i = static_cast<int>(threadIdx.x); i < Vectors * 2 * Lanes; i += kRowThreads) {
    const int x = i / (2 * Lanes), quad = i % (2 * Lanes);
    const bool is_there = x < count && quad * 4 < job.padded_k;
    const float* vector = job.queries.q + static_cast<std::int64_t>(first + x) * job.padded_k;
    target[x][quad] = is_there ? reinterpret_cast<const float4*>(vector)[quad] : float4{0.f, 0.f, 0.f, 0.f};
  }
}

/// What the groups of lanes of a block have found, to be joined: for one vector at a time.
template <int Lanes>
struct RowGroups {
  float largest[kRowThreads / Lanes];
  float sum[kRowThreads / Lanes];
  float out[kRowThreads / Lanes][Lanes * 8];
};

/// Writes the partial of one vector from what the groups of lanes have. All threads of the block call it.
template <int Lanes>
__device__ void write_partial(const OnlineSoftmax<8>& state, RowGroups<Lanes>& groups, std::int32_t dim_v,
                              bool is_vector, const Partials& partials, std::int64_t row) {
  constexpr int kGroups = kRowThreads / Lanes;
  const int lane = static_cast<int>(threadIdx.x) % Lanes, group = static_cast<int>(threadIdx.x) / Lanes;
  if (lane == 0) {
    groups.largest[group] = state.largest;
    groups.sum[group] = state.sum;
  }
  __syncthreads();
  float most = -infinity();
#pragma unroll
  for (int g = 0; g < kGroups; ++g) most = fmaxf(most, groups.largest[g]);
  const bool empty = most == -infinity();
  const float scale = empty ? 0.f : exp2f(state.largest - most);
#pragma unroll
  for (int i = 0; i < 8; ++i) groups.out[group][lane * 8 + i] = state.out[i] * scale;
  float sum = 0.f;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) sum += empty ? 0.f : groups.sum[g] * exp2f(groups.largest[g] - most);
  __syncthreads();
  if (is_vector) {
    for (int d = static_cast<int>(threadIdx.x); d < dim_v; d += kRowThreads) {
      float out = 0.f;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) out += groups.out[g][d];
      partials.out[row * dim_v + d] = empty ? 0.f : out / sum;
    }
    if (threadIdx.x == 0) partials.lse[row] = empty ? -infinity() : (most + log2f(sum)) * kLn2;
  }
  __syncthreads();
}

/// The work of row_attention().
template <typename T, int Lanes, int Vectors>
__device__ void attend_rows(const RowJob& job, const WorkItem& item, const Partials& partials) {
  constexpr int kGroups = kRowThreads / Lanes;
  struct Shared {
    RowGroups<Lanes> groups;
    LogitRule rules[Vectors];
    float4 queries[Vectors][2 * Lanes];  // in registers they would halve the blocks that fit a processor
  };
  TANDEM_SHARED(Shared, shared);
  const int lane = static_cast<int>(threadIdx.x) % Lanes, group = static_cast<int>(threadIdx.x) / Lanes;
  const int count = min(Vectors, job.queries.num_vectors - item.first_vector);
  if (static_cast<int>(threadIdx.x) < count)
    shared.rules[threadIdx.x] = logit_rule(job.queries, item.first_vector + static_cast<int>(threadIdx.x));
  const bool has_k = lane * 8 < job.padded_k, has_v = lane * 8 < job.padded_v;
  OnlineSoftmax<8> states[Vectors];
#pragma unroll
  for (int x = 0; x < Vectors; ++x) states[x].clear();
  load_queries<Lanes>(job, item.first_vector, count, shared.queries);
  __syncthreads();
  const auto end = static_cast<std::int32_t>(item.end);
  for (auto first = static_cast<std::int32_t>(item.begin); first < end; first += kGroups * kRowsAtOnce) {
    Raw8<T> raw_k[kRowsAtOnce] = {}, raw_v[kRowsAtOnce] = {};
    std::int64_t positions[kRowsAtOnce];
#pragma unroll
    for (int u = 0; u < kRowsAtOnce; ++u) {
      const std::int32_t index = first + u * kGroups + group;
      positions[u] = -1;  // which no query sees
      if (index >= end) continue;
      const RowPlace place = place_of(job, index);
      positions[u] = place.position;
      if (has_k) raw_k[u] = load_raw8<T>(place.row + lane * 8 * T::kBytes);
      if (has_v) raw_v[u] = load_raw8<T>(place.row + job.v_offset + lane * 8 * T::kBytes);
    }
    float k[kRowsAtOnce][8], v[kRowsAtOnce][8];
#pragma unroll
    for (int u = 0; u < kRowsAtOnce; ++u) {
      unpack8(raw_k[u], k[u]);
      unpack8(raw_v[u], v[u]);
    }
#pragma unroll
    for (int x = 0; x < Vectors; ++x) {
      if (x >= count) break;
      float logits[kRowsAtOnce];
#pragma unroll
      for (int u = 0; u < kRowsAtOnce; ++u) {
        float dot = dot8(shared.queries[x][2 * lane], shared.queries[x][2 * lane + 1], k[u]);
#pragma unroll
        for (int offset = Lanes / 2; offset > 0; offset /= 2) dot += __shfl_xor_sync(kWholeWarp, dot, offset, 32);
        logits[u] = logit2(shared.rules[x], positions[u], dot);
      }
      states[x].add(logits, v);
    }
  }
#pragma unroll
  for (int x = 0; x < Vectors; ++x)
    write_partial<Lanes>(states[x], shared.groups, job.dim_v, x < count, partials, item.partial_row + x);
}

/// Split-KV attention over rows: one item a block, `Vectors` query vectors of it. `Lanes` neighbouring threads share a
/// row, 8 elements of K and of V each: padded_k, padded_v <= 8 Lanes. Of rows of 16 bits on older devices only.
/// Source: Dao et al., Flash-Decoding (2023); Kwon et al., PagedAttention, arXiv:2309.06180.
template <typename T, int Lanes, int Vectors>
__global__ void __launch_bounds__(kRowThreads)
    row_attention(const RowJob* __restrict__ jobs, const WorkItem* __restrict__ items, Partials partials) {
  const WorkItem item = items[blockIdx.x];
  if constexpr (kForOlderDevices || T::kBytes > 2) attend_rows<T, Lanes, Vectors>(jobs[item.job], item, partials);
}

}  // namespace tandem::gpu::cuda
