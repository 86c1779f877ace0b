#pragma once

#include "gpu/cuda/kernels/prefill_work.cuh"

// What the kernels of prefill_attention.cuh and prefill_tensor.cuh share: which rows of a piece a vector sees, and how
// the state of a vector goes from piece to piece.

namespace tandem::gpu::cuda {

/// What turns <q, k> into the logit of one query vector, and the rows of the piece that it sees; lies in shared memory.
struct PrefillRule {
  std::int32_t first;
  std::int32_t end;
  std::int32_t own;  ///< where the query's own token would lie
  float slope;
};

/// Of vector `vector`; one that is not there sees nothing.
__device__ inline PrefillRule prefill_rule(const Queries& queries, const PrefillRows& rows, std::int32_t vector) {
  if (vector >= queries.num_vectors) return {};
  const QuerySpan span = queries.spans[vector / queries.group_size];
  const std::int64_t count = rows.count;
  const auto index = [&](std::int64_t position) {
    const std::int64_t at = position - rows.first_position;
    return static_cast<std::int32_t>(at < 0 ? 0 : at > count ? count : at);
  };
  return {index(span.first), index(span.end), static_cast<std::int32_t>(span.position - rows.first_position),
          queries.alibi == nullptr ? 0.f : queries.alibi[vector % queries.group_size]};
}

/// The logit of row `index`, in base 2; -infinity where the query does not see it.
__device__ inline float prefill_logit(const PrefillRule& rule, const PrefillRows& rows, float softcap,
                                      std::int32_t index, float dot) {
  if (index < rule.first || index >= rule.end) return -infinity();
  if (rows.left_out != nullptr && (rows.left_out[index / 32] >> (index % 32) & 1u) != 0) return -infinity();
  if (softcap > 0.f) dot = softcap * tanhf(dot / softcap);
  if (rule.slope != 0.f) dot += rule.slope * static_cast<float>(index - rule.own);
  return dot * kLog2E;
}

struct RowsSeen {
  std::int32_t begin;
  std::int32_t end;
};

/// The rows of split `split` that some of the vectors see, from a multiple of `tile` on: rows that all of them do not
/// see leave no trace. All lanes of a warp call it.
template <int Vectors>
__device__ RowsSeen rows_seen(const PrefillRule (&rules)[Vectors], const PrefillRows& rows, int split, int tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::int32_t first = rows.count, end = 0;
  for (int v = lane; v < Vectors; v += 32) {
    if (rules[v].first >= rules[v].end) continue;
    first = min(first, rules[v].first);
    end = max(end, rules[v].end);
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    first = min(first, __shfl_xor_sync(kWholeWarp, first, offset, 32));
    end = max(end, __shfl_xor_sync(kWholeWarp, end, offset, 32));
  }
  return {max(first / tile * tile, split * rows.split_rows), min(end, (split + 1) * rows.split_rows)};
}

/// What the weighted sums of earlier pieces, and those of this one, are multiplied with.
struct PrefillScales {
  float before;
  float piece;
};

/// Joins the weights of a piece to the state in `row`, whose values then follow. One thread of each row calls it.
__device__ inline PrefillScales join_weights(const PrefillStates& states, std::int64_t row, float reference, float sum,
                                             bool is_first) {
  const float before = is_first ? -infinity() : states.reference[row];
  const float most = fmaxf(before, reference);
  PrefillScales scales = {0.f, 0.f};
  if (before > -infinity()) scales.before = exp2f(before - most);
  if (reference > -infinity()) scales.piece = exp2f(reference - most);
  const float sum_before = is_first ? 0.f : states.sum[row];
  states.reference[row] = most;
  states.sum[row] = fmaf(sum_before, scales.before, sum * scales.piece);
  return scales;
}

}  // namespace tandem::gpu::cuda
