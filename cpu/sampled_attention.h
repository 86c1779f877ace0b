#pragma once

#include <cstdint>
#include <vector>

#include "cpu/attention_pass.h"
#include "cpu/kv_store.h"

namespace tandem::cpu {

/// Rows of one (sequence, layer, kv_head) store that were drawn with known probabilities, for all heads of a group.
struct SampledRows {
  std::vector<std::uint32_t> rows;  ///< ascending, distinct store rows
  std::vector<float> inclusion;     ///< per row, the probability in (0, 1] with which it was drawn; 1: it was certain
};

/// Horvitz-Thompson attention of one query token's group: with a = w / pi over the drawn rows, out = sum(a v) / sum(a)
/// and lse = ln sum(a), whose exponential is an unbiased estimate of the denominator over all rows.
///
/// Only the drawn rows at the indices of `range` are attended; row r is the token at first_position + r. `queries` has
/// num_queries == 1. Writes result (group_size, dim_v) and what `spread` asks for. No rows give an empty result.
/// Thread-safe on distinct scratch and results; throws only when scratch has to grow. Source: Horvitz & Thompson, JASA
/// 47 (1952).
void sampled_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                       const SampledRows& sample, const QueryBlock& queries, const LogitRule& logits,
                       AttentionScratch& scratch, PartialAttention result, SampleSpread spread, RowRange range = {});

}  // namespace tandem::cpu
