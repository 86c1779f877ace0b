#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cpu/attention_pass.h"
#include "cpu/sampled_attention.h"

namespace tandem::cpu {

/// Rows of one (sequence, layer, kv_head) store that the query heads of one GQA group attend to, for one query token.
struct Selection {
  std::vector<std::uint32_t> rows;       ///< ascending, distinct store rows: the union over the group
  std::vector<std::uint64_t> head_mask;  ///< per row, bit h: head h of the group uses it; empty: every head
                                         ///< uses every row
  std::optional<CollisionRule> weights;  ///< none: every row has weight 1
  SampledRows sampled;                   ///< drawn besides `rows`, for all heads
  std::vector<float> log_calibration;    ///< per head, added to the sampled part's lse; empty: nothing
  const float* tail_mean = nullptr;      ///< (dim_v) where the sampled part's out is shrunk towards; nullptr: nowhere
  bool certified = true;                 ///< the error estimate of what was sampled holds
  std::int64_t bytes_read = 0;           ///< of keys or index, to find them

  void clear() noexcept {
    rows.clear();
    head_mask.clear();
    weights.reset();
    sampled.rows.clear();
    sampled.inclusion.clear();
    log_calibration.clear();
    tail_mean = nullptr;
    certified = true;
    bytes_read = 0;
  }
};

/// Takes rows out of a selection, as if no head used them: `rows` ascending. What was sampled stays an unbiased sample
/// of what is left.
void leave_out(std::span<const std::uint32_t> rows, Selection& selection);

}  // namespace tandem::cpu
