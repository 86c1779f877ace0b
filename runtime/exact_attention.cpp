#include "runtime/exact_attention.h"

#include <algorithm>
#include <bit>

#include "runtime/partial_tree.h"

namespace tandem {
namespace {

/// A partial over `memory`: out (num_vectors, dim_v), then lse (num_vectors).
PartialAttention partial_in(float* memory, std::int64_t num_vectors, std::int64_t dim_v) {
  return {memory, memory + num_vectors * dim_v, num_vectors, dim_v};
}

cpu::RowRange rows_of(std::int64_t range) { return {range * kRangeRows, (range + 1) * kRangeRows}; }

}  // namespace

std::int64_t attend_ranges(const cpu::Kernels& kernels, const Task& task, const Piece& piece, int level,
                           const cpu::QueryBlock& queries, const cpu::LogitRule& logits, WorkerScratch& scratch,
                           PartialAttention result) {
  const cpu::KvStore& store = task.head_state().store;
  const std::int64_t first_position = task.layer->first_host_position();
  const std::int64_t first = std::max(task.first_range, piece.index << level);
  const std::int64_t last = std::min(task.last_range, (piece.index + 1) << level);
  const auto attend = [&](std::int64_t range, PartialAttention partial) {
    return cpu::dense_attention(kernels, store, first_position, queries, logits, scratch.attention, partial,
                                rows_of(range), task.head_state().window.kept_rows());
  };
  if (last - first == 1) return attend(first, result);
  const std::int64_t floats = result.rows * (result.dim + 1);
  // One for each level of the tree and one that is being computed.
  const std::int64_t slots = std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(0, last))) + 2;
  if (static_cast<std::int64_t>(scratch.subtrees.size()) < slots * floats)
    scratch.subtrees.resize(static_cast<std::size_t>(slots * floats));
  PartialTree tree;
  std::int64_t rows = 0;
  for (std::int64_t range = first; range < last; ++range) {
    // Free: a merged subtree lies where its left part did.
    float* slot = scratch.subtrees.data() + tree.depth() * floats;
    const PartialAttention partial = partial_in(slot, result.rows, result.dim);
    rows += attend(range, partial);
    tree.add(partial, range, 0);
  }
  set_empty(result);
  if (tree.depth() > 0) merge_state(result, as_const(tree.finish()));
  return rows;
}

PartialAttention partial_of(const Piece& piece, std::int64_t num_vectors, std::int64_t dim_v, StepBuffers& buffers) {
  return partial_in(buffers.partials.data() + piece.offset, num_vectors, dim_v);
}

PartialAttention merge_pieces(const Task& task, std::int64_t num_vectors, std::int64_t dim_v, StepBuffers& buffers) {
  PartialTree tree;
  for (std::int32_t i = 0; i < task.num_pieces; ++i) {
    const Piece& piece = buffers.pieces[static_cast<std::size_t>(task.first_piece + i)];
    tree.add(partial_of(piece, num_vectors, dim_v, buffers), piece.index, buffers.piece_level);
  }
  return tree.finish();
}

}  // namespace tandem
