#include "cpu/sparse_attention.h"

#include <algorithm>
#include <cassert>

namespace tandem::cpu {
namespace {

/// Fills `block` with the selected rows at indices from `begin` on, up to `end`.
void gather(const KvStore& store, std::int64_t first_position, const Selection& selection, std::size_t begin,
            std::size_t end, RowBlock& block) {
  const std::size_t count = std::min<std::size_t>(kBlockRows, end - begin);
  block.count = static_cast<int>(count);
  block.has_mask = !selection.head_mask.empty();
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t row = selection.rows[begin + i];
    block.rows[i] = store.row(row);
    block.positions[i] = first_position + row;
    if (block.has_mask) block.head_mask[i] = selection.head_mask[begin + i];
    if (selection.weights) block.inverse_norms[i] = selection.weights->inverse_norms[row];
  }
  std::fill(block.inverse_norms.begin() + static_cast<std::ptrdiff_t>(count), block.inverse_norms.end(), 0.f);
}

}  // namespace

void sparse_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                      const Selection& selection, const QueryBlock& queries, const LogitRule& logits,
                      AttentionScratch& scratch, PartialAttention result, SampleSpread spread, RowRange range) {
  assert(queries.num_queries == 1);
  assert(selection.head_mask.empty() || selection.head_mask.size() == selection.rows.size());
  assert(std::is_sorted(selection.rows.begin(), selection.rows.end()));
  const CollisionRule* rule = selection.weights ? &*selection.weights : nullptr;
  AttentionPass pass(kernels, store.layout(), queries, logits, rule, scratch);
  auto begin = static_cast<std::size_t>(range.begin);
  const auto end = std::min(selection.rows.size(), static_cast<std::size_t>(range.end));
  pass.add_all([&](RowBlock& block) {
    if (begin >= end) return false;
    gather(store, first_position, selection, begin, end, block);
    begin += kBlockRows;
    return true;
  });
  pass.finish(result, spread);
}

}  // namespace tandem::cpu
