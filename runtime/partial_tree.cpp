#include "runtime/partial_tree.h"

#include <cassert>

namespace tandem {

void PartialTree::add(PartialAttention partial, std::int64_t index, int level) noexcept {
  // A right child takes its left sibling with it, if there is one, and becomes their parent.
  while (index % 2 == 1) {
    if (depth_ > 0) {
      Node& left = nodes_[static_cast<std::size_t>(depth_ - 1)];
      if (left.level == level) {
        assert(left.index == index - 1);
        merge_state(left.partial, as_const(partial));
        partial = left.partial;
        --depth_;
      }
    }
    index /= 2;
    ++level;
  }
  assert(depth_ < kMaxDepth);
  nodes_[static_cast<std::size_t>(depth_++)] = {partial, index, level};
}

PartialAttention PartialTree::finish() noexcept {
  if (depth_ == 0) return {};
  for (; depth_ > 1; --depth_) {
    merge_state(nodes_[static_cast<std::size_t>(depth_ - 2)].partial,
                as_const(nodes_[static_cast<std::size_t>(depth_ - 1)].partial));
  }
  depth_ = 0;
  return nodes_[0].partial;
}

}  // namespace tandem
