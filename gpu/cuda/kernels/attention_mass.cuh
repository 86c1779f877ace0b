#pragma once

#include "gpu/cuda/kernels/row_attention.cuh"

namespace tandem::gpu::cuda {

/// Softmax probabilities of rows, summed over a job's query vectors in their order: one item a block, `Lanes`
/// neighbouring threads a row. Source of their use: Zhang et al., H2O, arXiv:2306.14048, section 4.
template <typename T, int Lanes>
__global__ void __launch_bounds__(kRowThreads)
    attention_mass(const RowJob* __restrict__ jobs, const MassItem* __restrict__ items) {
  constexpr int kGroups = kRowThreads / Lanes;
  const MassItem item = items[blockIdx.x];
  const RowJob& job = jobs[item.job];
  const int lane = static_cast<int>(threadIdx.x) % Lanes, group = static_cast<int>(threadIdx.x) / Lanes;
  const bool has_k = lane * 8 < job.padded_k;
  const auto end = static_cast<std::int32_t>(item.end);
  for (auto first = static_cast<std::int32_t>(item.begin); first < end; first += kGroups) {
    const std::int32_t index = first + group;
    RowPlace place{nullptr, -1};  // a position that no query sees
    Raw8<T> raw = {};
    if (index < end) {
      place = place_of(job, index);
      if (has_k) raw = load_raw8<T>(place.row + lane * 8 * T::kBytes);
    }
    float k[8];
    unpack8(raw, k);
    float mass = 0.f;
    for (std::int32_t vector = 0; vector < job.queries.num_vectors; ++vector) {
      float dot = 0.f;
      if (has_k) {
        const auto* q = reinterpret_cast<const float4*>(job.queries.q +
                                                        static_cast<std::int64_t>(vector) * job.padded_k + lane * 8);
        dot = dot8(q[0], q[1], k);
      }
#pragma unroll
      for (int offset = Lanes / 2; offset > 0; offset /= 2) dot += __shfl_xor_sync(kWholeWarp, dot, offset, 32);
      const float logit = logit2(logit_rule(job.queries, vector), place.position, dot);
      if (logit > -infinity()) mass += exp2f(logit - item.lse[vector] * kLog2E);
    }
    if (lane == 0 && index < end) item.mass[index - job.num_sinks] = mass;
  }
}

}  // namespace tandem::gpu::cuda
