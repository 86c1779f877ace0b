#pragma once

#include <cstdint>

#include "cpu/kv_store.h"
#include "cpu/selection.h"

namespace tandem::cpu {

/// Attention of one query token's group over selection.rows, or those at the indices of `range`, gathered once for all
/// heads of the group; row r is the token at first_position + r.
///
/// `queries` has num_queries == 1. Writes result (group_size, dim_v) and what `spread` asks for. Thread-safe on
/// distinct scratch and results.
void sparse_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                      const Selection& selection, const QueryBlock& queries, const LogitRule& logits,
                      AttentionScratch& scratch, PartialAttention result, SampleSpread spread, RowRange range = {});

}  // namespace tandem::cpu
