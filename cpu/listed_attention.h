#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/attention_pass.h"
#include "cpu/row_runs.h"

namespace tandem::cpu {

/// What an engine's mask adds to the logits of one query, by row.
struct RowBias {
  const std::uint16_t* mask = nullptr;  ///< f16; nullptr: nothing
  std::int64_t first_row = 0;           ///< that mask[0] belongs to
};

/// Exact attention of one query token's group over the rows at the indices `range` of `rows`, each at `base` + row *
/// layout.row_bytes.
///
/// `queries` has num_queries == 1, whose position is not looked at: the list says what it sees. `bias` is multiplied by
/// logits.bias_factors; every row of the range must have a value there that is no NaN and not +inf. Writes result
/// (group_size, dim_v); no rows give an empty result. Thread-safe on distinct scratch and results; throws only when
/// scratch has to grow.
void listed_attention(const Kernels& kernels, const RowLayout& layout, const std::byte* base, const RowRuns& rows,
                      RowRange range, const RowBias& bias, const QueryBlock& queries, const LogitRule& logits,
                      AttentionScratch& scratch, PartialAttention result);

}  // namespace tandem::cpu
