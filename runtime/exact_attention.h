#pragma once

#include <cstdint>

#include "cpu/dense_attention.h"
#include "runtime/step_plan.h"
#include "runtime/worker_scratch.h"

namespace tandem {

/// Exact attention of one task's queries over the host rows of `piece`, a subtree of `level`, range by range, merged as
/// PartialTree says.
///
/// Writes result (num_vectors, dim_v). Returns the rows read. Thread-safe on distinct scratch and results.
std::int64_t attend_ranges(const cpu::Kernels& kernels, const Task& task, const Piece& piece, int level,
                           const cpu::QueryBlock& queries, const cpu::LogitRule& logits, WorkerScratch& scratch,
                           PartialAttention result);

/// The partial that `piece` of a cut task left in `buffers`.
PartialAttention partial_of(const Piece& piece, std::int64_t num_vectors, std::int64_t dim_v, StepBuffers& buffers);

/// Merges the partials of all pieces of a cut task; the result lies in the memory of the first.
PartialAttention merge_pieces(const Task& task, std::int64_t num_vectors, std::int64_t dim_v, StepBuffers& buffers);

}  // namespace tandem
