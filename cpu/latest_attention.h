#pragma once

#include <cstdint>

#include "cpu/attention_pass.h"
#include "cpu/kv_store.h"

namespace tandem::cpu {

/// Exact attention of one query token's group over what a window would hold of a borrowed store: the `first_position`
/// rows before row 0, and those that lie there unpublished; row r is the token at first_position + r.
///
/// `queries` has num_queries == 1. Writes result (group_size, dim_v); a query that sees none of the rows gets an empty
/// one. Returns the rows that it sees. Thread-safe on distinct scratch and results; throws only when scratch has to
/// grow.
std::int64_t latest_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                              const QueryBlock& queries, const LogitRule& logits, AttentionScratch& scratch,
                              PartialAttention result);

/// How many rows that is for a query at `position`.
std::int64_t latest_rows(const KvStore& store, std::int64_t first_position, std::int64_t position) noexcept;

}  // namespace tandem::cpu
