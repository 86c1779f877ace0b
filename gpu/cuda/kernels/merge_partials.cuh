#pragma once

#include "gpu/cuda/kernels/work.cuh"

namespace tandem::gpu::cuda {

inline constexpr int kMergeThreads = 128;

/// <query, key> of an item's own entry as a logit, natural; the same for all threads of the block.
__device__ inline float own_logit(const MergeItem& item, float (&sums)[kMergeThreads / 32]) {
  float dot = 0.f;
  for (int i = static_cast<int>(threadIdx.x); i < item.padded_k; i += kMergeThreads)
    dot = fmaf(item.own_query[i], item.own_entry[i], dot);
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) dot += __shfl_xor_sync(kWholeWarp, dot, offset, 32);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = dot;
  __syncthreads();
  dot = 0.f;
#pragma unroll
  for (int w = 0; w < kMergeThreads / 32; ++w) dot += sums[w];
  return item.softcap > 0.f ? item.softcap * tanhf(dot / item.softcap) : dot;
}

/// merge_state over the partials of one query vector a block, of which there may be any number; see
/// runtime/base/partial.h. Partials of nothing are neutral, and nothing but those gives one.
__global__ void __launch_bounds__(kMergeThreads)
    merge_partials(const MergeItem* __restrict__ items, Partials partials, std::int32_t dim_v) {
  struct Shared {
    float sums[kMergeThreads / 32];
  };
  TANDEM_SHARED(Shared, shared);
  const MergeItem item = items[blockIdx.x];
  const float own = item.own_entry == nullptr ? -infinity() : own_logit(item, shared.sums);
  float most = own;
  for (std::int32_t p = 0; p < item.count; ++p)
    most = fmaxf(most, partials.lse[item.first_row + static_cast<std::int64_t>(p) * item.stride]);
  const bool empty = most == -infinity();
  float sum = empty ? 0.f : exp2f((own - most) * kLog2E);
  const float own_weight = sum;
  for (std::int32_t p = 0; p < item.count && !empty; ++p)
    sum += exp2f((partials.lse[item.first_row + static_cast<std::int64_t>(p) * item.stride] - most) * kLog2E);
  for (int d = static_cast<int>(threadIdx.x); d < dim_v; d += kMergeThreads) {
    float out = item.own_entry == nullptr ? 0.f : own_weight * item.own_entry[item.padded_k + d];
    for (std::int32_t p = 0; p < item.count && !empty; ++p) {
      const std::int64_t row = item.first_row + static_cast<std::int64_t>(p) * item.stride;
      out = fmaf(exp2f((partials.lse[row] - most) * kLog2E), partials.out[row * dim_v + d], out);
    }
    item.out[d] = empty ? 0.f : out / sum;
  }
  if (threadIdx.x == 0) *item.lse = empty ? -infinity() : most + log2f(sum) * kLn2;
}

}  // namespace tandem::gpu::cuda
