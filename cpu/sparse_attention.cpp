#include "cpu/sparse_attention.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace tandem::cpu {
namespace {

/// Fills `block` with the selected rows from index `begin` on, and asks for their cache lines.
void gather(const KvStore& store, std::int64_t first_position, const Selection& selection, std::size_t begin,
            RowBlock& block) {
  const std::size_t count = std::min<std::size_t>(kBlockRows, selection.rows.size() - begin);
  block.count = static_cast<int>(count);
  block.has_mask = true;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t row = selection.rows[begin + i];
    const std::byte* data = store.row(row);
    for (std::int64_t line = 0; line < store.layout().row_bytes; line += 64) __builtin_prefetch(data + line);
    block.rows[i] = data;
    block.positions[i] = first_position + row;
    block.head_mask[i] = selection.head_mask[begin + i];
    if (selection.weights) block.inverse_norms[i] = selection.weights->inverse_norms[row];
  }
  std::fill(block.inverse_norms.begin() + static_cast<std::ptrdiff_t>(count), block.inverse_norms.end(), 0.f);
}

}  // namespace

void sparse_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                      const Selection& selection, const QueryBlock& queries, const LogitRule& logits,
                      AttentionScratch& scratch, PartialAttention result, float* lse_variance) {
  assert(queries.num_queries == 1);
  const CollisionRule* rule = selection.weights ? &*selection.weights : nullptr;
  AttentionPass pass(kernels, store.layout(), queries, logits, rule, scratch);
  RowBlock blocks[2];  // while one is computed, the lines of the other are on their way
  RowBlock* present = &blocks[0];
  RowBlock* next = &blocks[1];
  const std::size_t total = selection.rows.size();
  if (total > 0) gather(store, first_position, selection, 0, *present);
  for (std::size_t begin = 0; begin < total; begin += kBlockRows) {
    if (begin + kBlockRows < total) gather(store, first_position, selection, begin + kBlockRows, *next);
    pass.add(*present);
    std::swap(present, next);
  }
  pass.finish(result, lse_variance);
}

}  // namespace tandem::cpu
