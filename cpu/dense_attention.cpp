#include "cpu/dense_attention.h"

#include <algorithm>
#include <cassert>

namespace tandem::cpu {

std::int64_t dense_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                             const QueryBlock& queries, const LogitRule& logits, AttentionScratch& scratch,
                             PartialAttention result, RowRange range, std::span<const std::uint32_t> left_out) {
  assert(range.begin % kPageRows == 0);
  AttentionPass pass(kernels, store.layout(), queries, logits, nullptr, scratch);
  // Positions ascend, so the first query sees furthest back and the last query furthest on.
  const std::int64_t first = std::max(range.begin, logits.first_visible(queries.positions[0]) - first_position);
  const std::int64_t last =
      std::min({range.end, store.size(), queries.positions[queries.num_queries - 1] + 1 - first_position});
  // From a page's start, hidden rows included: results then do not depend on which queries share the pass.
  std::int64_t begin = first / kPageRows * kPageRows;
  const std::uint32_t* hole = std::lower_bound(left_out.data(), left_out.data() + left_out.size(), begin);
  const std::uint32_t* const last_hole = left_out.data() + left_out.size();
  pass.add_all([&](RowBlock& block) {
    const std::int64_t end = std::min(last, (begin / kPageRows + 1) * kPageRows);  // a block never straddles two pages
    if (begin >= end) return false;
    block.count = static_cast<int>(end - begin);
    store.rows(begin, block.count, block.rows.data());
    for (int i = 0; i < block.count; ++i) block.positions[static_cast<std::size_t>(i)] = first_position + begin + i;
    block.has_mask = hole != last_hole && *hole < end;
    if (block.has_mask) block.head_mask.fill(~std::uint64_t{0});
    for (; hole != last_hole && *hole < end; ++hole) block.head_mask[static_cast<std::size_t>(*hole - begin)] = 0;
    begin = end;
    return true;
  });
  pass.finish(result);
  return std::max<std::int64_t>(0, last - first);
}

}  // namespace tandem::cpu
