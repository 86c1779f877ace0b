#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/attention_pass.h"

namespace tandem::cpu {

/// Rows of one (sequence, layer, kv_head) store that the query heads of one GQA group attend to, for one query token.
struct Selection {
  std::vector<std::uint32_t> rows;       ///< ascending, distinct store rows: the union over the group
  std::vector<std::uint64_t> head_mask;  ///< per row, bit h: head h of the group uses it; empty: every head
                                         ///< uses every row
  std::optional<CollisionRule> weights;  ///< none: every row has weight 1
  std::int64_t bytes_read = 0;           ///< of keys or index, to find them

  void clear() noexcept {
    rows.clear();
    head_mask.clear();
    weights.reset();
    bytes_read = 0;
  }
};

}  // namespace tandem::cpu
