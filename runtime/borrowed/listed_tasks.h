#pragma once

#include <cstdint>
#include <vector>

#include "runtime/borrowed/row_tensors.h"
#include "runtime/borrowed/visibility.h"
#include "runtime/step_context.h"
#include "runtime/step_stats.h"
#include "runtime/worker_scratch.h"

namespace tandem {

/// Queries that attend to every row that they see, without a list of the pool: a task is one query token of one KV
/// head, cut into ranges of its rows that workers share. Neither the ranges nor the order in which they are merged
/// depend on the workers.
class ListedTasks {
 public:
  void clear() noexcept;
  /// Heads of a query come one after another, ascending. `visible` stays until the end.
  void add(std::int64_t query, std::int32_t head, const VisibleRowList& visible);
  /// Cuts the tasks, and takes the memory that workers write: once after the last add(). Throws std::bad_alloc.
  void plan(const AttentionShape& shape);

  /// Of all tasks that were added.
  [[nodiscard]] std::int64_t num_rows() const noexcept { return num_rows_; }
  [[nodiscard]] std::int64_t num_pieces() const noexcept { return static_cast<std::int64_t>(pieces_.size()); }
  /// `bias_factors` (num_q_heads), or nullptr. Whoever is last of a task's pieces writes its results. Thread-safe on
  /// distinct pieces and scratch.
  void run(const StepContext& step, const RowTensors& rows, const float* bias_factors, std::int64_t piece,
           WorkerScratch& scratch);
  /// Of all tasks, in their order.
  void add_stats(StepStats& total) const;

 private:
  struct Task {
    std::int64_t query;
    const VisibleRowList* visible;
    std::size_t first_head;  // in heads_
    std::size_t num_heads;
    std::int64_t first_piece = 0;
    std::int32_t num_pieces = 0;
    std::int32_t unfinished = 0;  // pieces; counted down by the workers
  };
  struct Piece {
    std::int64_t task;
    std::int64_t index;   // of those of the task
    std::int64_t offset;  // of its partial in partials_
  };
  [[nodiscard]] PartialAttention partial(std::int64_t piece, const AttentionShape& shape) noexcept;
  void finish(const StepContext& step, const Task& task);

  std::vector<Task> tasks_;
  std::int64_t num_rows_ = 0;
  std::vector<std::int32_t> heads_;
  std::vector<Piece> pieces_;
  std::vector<float> partials_;
  std::vector<StepStats> stats_;  // by piece
};

}  // namespace tandem
