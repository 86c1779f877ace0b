#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/attention_pass.h"
#include "cpu/row_runs.h"

namespace tandem::cpu {

/// What an engine's mask adds to the logits of one query, by row.
struct RowBias {
  const std::uint16_t* mask = nullptr;  ///< f16; nullptr: nothing
  std::int64_t first_row = 0;           ///< that mask[0] belongs to
};

/// KV heads in an engine's tensors: head h of row r at base + r * layout.row_bytes + h * head_bytes.
struct EngineHeads {
  const RowLayout& layout;
  const std::byte* base;
  std::int64_t head_bytes;
  int in_a_row;                         ///< that the tensors have
  std::span<const std::int32_t> heads;  ///< those that are attended, ascending
};

/// Memory of listed_attention; grows to the most heads seen and then stays.
struct ListedScratch {
  std::vector<AttentionScratch> heads;
  std::vector<LogitRule> rules;
  std::vector<QueryBlock> queries;
  std::vector<AttentionPass> passes;  ///< none between calls
};

/// Exact attention of one query token, some of its KV heads, over the rows at the indices `range` of `rows`: block by
/// block and in each head by head, so that memory is read in the order in which rows lie there.
///
/// `queries` (heads that are attended * group_size, padded_k) are scaled and aligned as those of a QueryBlock. `bias`
/// is multiplied by `bias_factors` (in_a_row * group_size; nullptr: 1); every row of the range must have a value there
/// that is no NaN and not +inf. Writes result (heads * group_size, dim_v); no rows give an empty one. Thread-safe on
/// distinct scratch and results; throws only when memory has to grow.
void listed_attention(const Kernels& kernels, const EngineHeads& heads, const RowRuns& rows, RowRange range,
                      const RowBias& bias, const float* bias_factors, const float* queries, int group_size,
                      float softcap, ListedScratch& scratch, PartialAttention result);

}  // namespace tandem::cpu
