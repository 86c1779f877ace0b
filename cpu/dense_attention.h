#pragma once

#include <cstdint>
#include <span>

#include "cpu/attention_pass.h"
#include "cpu/kv_store.h"

namespace tandem::cpu {

/// Exact attention of `queries` over the rows of `store` that they may see and that lie in `range`, which begins at a
/// page; row r is the token at first_position + r.
///
/// Rows that `left_out` lists, ascending, take no part. Writes result (num_vectors, dim_v); vectors that see no row are
/// empty. Returns the rows read. Thread-safe on
/// distinct scratch and result.
std::int64_t dense_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                             const QueryBlock& queries, const LogitRule& logits, AttentionScratch& scratch,
                             PartialAttention result, RowRange range = {},
                             std::span<const std::uint32_t> left_out = {});

}  // namespace tandem::cpu
