#pragma once

#include <cstdint>

namespace tandem::cpu {

/// What turns <q, k> into a logit besides the scale, and which keys a query sees. Causal always.
struct LogitRule {
  float softcap = 0.f;                  ///< 0: none
  const float* alibi = nullptr;         ///< slope per head of the group, or nullptr
  std::int64_t sliding_window = 0;      ///< latest keys a query sees, its own position included; 0: all
  const float* bias_factors = nullptr;  ///< of RowBlock::bias, per head of the group; nullptr: 1

  /// First position that a query at `position` sees.
  [[nodiscard]] std::int64_t first_visible(std::int64_t position) const noexcept {
    return sliding_window > 0 && position >= sliding_window ? position - sliding_window + 1 : 0;
  }
};

/// Query vectors of one KV head: `num_queries` tokens x `group_size` heads, vector v = query * group_size + head.
struct QueryBlock {
  const float* q = nullptr;  ///< (num_queries * group_size, padded_k), multiplied by the scale, 64-byte aligned
  const std::int64_t* positions = nullptr;  ///< (num_queries), ascending
  int num_queries = 0;
  int group_size = 1;

  [[nodiscard]] int num_vectors() const noexcept { return num_queries * group_size; }
};

}  // namespace tandem::cpu
