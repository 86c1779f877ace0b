#pragma once

#include <array>
#include <cstdint>

#include "runtime/base/partial.h"

namespace tandem {

/// Merges partials of consecutive ranges of rows in an order that the ranges alone decide: that of the binary tree
/// whose leaves are all ranges, in which those before the first and after the last are empty. Whoever computed a
/// subtree, and with which other queries, the root has the same bits.
class PartialTree {
 public:
  /// Nodes that may wait for their siblings at once, for ranges up to 2^kMaxDepth.
  static constexpr int kMaxDepth = 32;

  /// Adds the subtree `index` of level `level`, the union of the ranges [index 2^level, (index + 1) 2^level). Subtrees
  /// come in ascending order, without overlaps and gaps. Its memory is written to later.
  void add(PartialAttention partial, std::int64_t index, int level) noexcept;
  /// Subtrees that wait for their siblings.
  [[nodiscard]] int depth() const noexcept { return depth_; }
  /// The partial of everything, in the memory of the first subtree; empty (rows 0) when there was none.
  [[nodiscard]] PartialAttention finish() noexcept;

 private:
  struct Node {
    PartialAttention partial;
    std::int64_t index;
    int level;
  };
  std::array<Node, kMaxDepth> nodes_;
  int depth_ = 0;
};

}  // namespace tandem
