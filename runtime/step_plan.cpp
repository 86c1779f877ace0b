#include "runtime/step_plan.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace tandem {
namespace {

// Query vectors that read a block of rows together: enough that decoding a row costs little, few enough that their
// scores and sums stay in the second-level cache.
constexpr int kVectorsPerTask = 64;

// Pieces for each worker beyond the tasks: enough that the last ones to run leave nobody idle for long, few enough that
// their partials take little memory.
constexpr std::int64_t kPiecesPerWorker = 16;
constexpr int kWholeTask = 31;  // a level whose first subtree holds the rows of any sequence

/// The host rows that an exact task may see, in ranges.
void find_ranges(const AttendRequest& request, Task& task) {
  task.exact = request.use_host && (request.exact || task.selector->selects_all());
  if (!task.exact) return;
  const std::int64_t sinks = task.layer->window.sinks();
  const std::int64_t last_position = task.first_position + task.num_queries - 1;
  const cpu::LogitRule logits{0.f, nullptr, request.sliding_window};
  const std::int64_t begin = std::max<std::int64_t>(0, logits.first_visible(task.first_position) - sinks);
  const std::int64_t end =
      std::min(task.layer->heads[static_cast<std::size_t>(task.head)].store.size(), last_position + 1 - sinks);
  if (end <= begin) return;
  task.first_range = begin / kRangeRows;
  task.last_range = (end - 1) / kRangeRows + 1;
}

/// Subtrees of `level` that hold a task's ranges; one when there are none.
std::int64_t subtrees_of(const Task& task, int level) {
  if (task.last_range <= task.first_range) return 1;
  return ((task.last_range - 1) >> level) - (task.first_range >> level) + 1;
}

int level_for(const std::vector<Task>& tasks, std::int64_t most) {
  for (int level = 0;; ++level) {
    std::int64_t pieces = 0;
    for (const Task& task : tasks) pieces += subtrees_of(task, level);
    if (pieces <= most) return level;
  }
}

}  // namespace

void plan_tasks(const AttendRequest& request, const SequenceLock& sequences, const AttentionShape& shape,
                std::vector<Task>& tasks) {
  tasks.clear();
  const int queries_per_task = std::max(1, kVectorsPerTask / shape.group_size());
  std::int64_t first_row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    LayerState& layer = sequences[s].layer(request.layer);
    const std::int64_t queries = request.num_queries[s];
    TANDEM_CHECK(queries <= layer.length(), invalid_argument, "num_queries[", s, "] is ", queries, "; sequence ",
                 sequences[s].id(), " holds ", layer.length(), " tokens in layer ", request.layer,
                 ", and queries belong to its last tokens");
    const std::int64_t first_position = layer.length() - queries;
    for (std::int64_t begin = 0; begin < queries; begin += queries_per_task) {
      const auto count = static_cast<int>(std::min<std::int64_t>(queries_per_task, queries - begin));
      for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
        Task task{&layer, &sequences[s].selector(), head, first_row + begin, first_position + begin, count};
        find_ranges(request, task);
        tasks.push_back(task);
      }
    }
    first_row += queries;
  }
}

void plan_pieces(const AttentionShape& shape, int num_workers, StepBuffers& buffers) {
  std::vector<Task>& tasks = buffers.tasks;
  const auto num_tasks = static_cast<std::int64_t>(tasks.size());
  const int level = num_workers == 1 ? kWholeTask : level_for(tasks, num_tasks + num_workers * kPiecesPerWorker);
  buffers.pieces.clear();
  std::int64_t floats = 0;
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    Task& task = tasks[t];
    task.first_piece = static_cast<std::int32_t>(buffers.pieces.size());
    task.num_pieces = static_cast<std::int32_t>(subtrees_of(task, level));
    task.unfinished = task.num_pieces;
    for (std::int32_t i = 0; i < task.num_pieces; ++i) {
      buffers.pieces.push_back({static_cast<std::int32_t>(t), level, (task.first_range >> level) + i, floats});
      if (task.num_pieces > 1) floats += std::int64_t{task.num_queries} * shape.group_size() * (shape.head_dim_v + 1);
    }
  }
  buffers.partials.resize(static_cast<std::size_t>(floats));
  buffers.parts.assign(buffers.pieces.size(), {});
  buffers.finished.assign(tasks.size(), {});
}

}  // namespace tandem
