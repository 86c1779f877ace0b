#pragma once

#include "gpu/cuda/kernels/prefill_work.cuh"

namespace tandem::gpu::cuda {

inline constexpr int kPrefillResultThreads = 128;

/// Attention from the states of one query vector a block: row v of `results` for vector v; empty where it saw no row.
__global__ void __launch_bounds__(kPrefillResultThreads)
    merge_prefill_states(PrefillStates states, std::int32_t padded_v, std::int32_t dim_v, Partials results) {
  const auto vector = static_cast<std::int64_t>(blockIdx.x);
  float most = -infinity();
#pragma unroll
  for (int s = 0; s < kPrefillSplits; ++s)
    most = fmaxf(most, states.reference[static_cast<std::int64_t>(s) * states.num_vectors + vector]);
  const bool empty = most == -infinity();
  float scales[kPrefillSplits], sum = 0.f;
#pragma unroll
  for (int s = 0; s < kPrefillSplits; ++s) {
    const std::int64_t row = static_cast<std::int64_t>(s) * states.num_vectors + vector;
    scales[s] = empty ? 0.f : exp2f(states.reference[row] - most);
    sum = fmaf(states.sum[row], scales[s], sum);
  }
  for (int d = static_cast<int>(threadIdx.x); d < dim_v; d += kPrefillResultThreads) {
    float out = 0.f;
#pragma unroll
    for (int s = 0; s < kPrefillSplits; ++s) {
      const std::int64_t row = static_cast<std::int64_t>(s) * states.num_vectors + vector;
      out = fmaf(states.out[row * padded_v + d], scales[s], out);
    }
    results.out[vector * dim_v + d] = empty ? 0.f : out / sum;
  }
  if (threadIdx.x == 0) results.lse[vector] = empty ? -infinity() : (most + log2f(sum)) * kLn2;
}

}  // namespace tandem::gpu::cuda
