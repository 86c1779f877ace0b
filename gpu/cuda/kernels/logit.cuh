#pragma once

#include "gpu/cuda/kernels/work.cuh"

namespace tandem::gpu::cuda {

/// What turns <q, k> into the logit of one query vector; lies in shared memory.
struct LogitRule {
  QuerySpan span;
  float slope;
  float softcap;
};

__device__ inline LogitRule logit_rule(const Queries& queries, std::int32_t vector) {
  return {queries.spans[vector / queries.group_size],
          queries.alibi == nullptr ? 0.f : queries.alibi[vector % queries.group_size], queries.softcap};
}

/// The logit of a key at `position`, in base 2; -infinity where the query does not see it.
__device__ inline float logit2(const LogitRule& rule, std::int64_t position, float dot) {
  if (position < rule.span.first || position >= rule.span.end) return -infinity();
  if (rule.softcap > 0.f) dot = rule.softcap * tanhf(dot / rule.softcap);
  if (rule.slope != 0.f) dot += rule.slope * static_cast<float>(position - rule.span.position);
  return dot * kLog2E;
}

}  // namespace tandem::gpu::cuda
