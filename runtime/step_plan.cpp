#include "runtime/step_plan.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"
#include "runtime/exact_queries.h"
#include "runtime/step_context.h"

namespace tandem {
namespace {

// Query vectors that read a block of rows together: enough that decoding a row costs little, few enough that their
// scores and sums stay in the second-level cache.
constexpr int kVectorsPerTask = 64;

// Pieces for each worker beyond the tasks: enough that the last ones to run leave nobody idle for long, few enough that
// their partials take little memory.
constexpr std::int64_t kPiecesPerWorker = 16;
constexpr int kWholeTask = 31;  // a level whose first subtree holds the rows of any sequence

/// Makes the task exact: the host rows that its queries may see, in ranges.
void make_exact(const AttendRequest& request, Task& task) {
  task.exact = true;
  const std::int64_t first = task.layer->first_host_position();
  const std::int64_t last_position = task.first_position + task.num_queries - 1;
  const cpu::LogitRule logits{0.f, nullptr, request.sliding_window};
  const std::int64_t begin = std::max<std::int64_t>(0, logits.first_visible(task.first_position) - first);
  const std::int64_t end = std::min(task.head_state().store.size(), last_position + 1 - first);
  if (end <= begin) return;
  task.first_range = begin / kRangeRows;
  task.last_range = (end - 1) / kRangeRows + 1;
}

/// Of as many rows as any head's; they differ where tokens are merged.
const cpu::KvStore& longest_store(const LayerState& layer) {
  return std::max_element(layer.heads.begin(), layer.heads.end(),
                          [](const HeadState& a, const HeadState& b) { return a.store.size() < b.store.size(); })
      ->store;
}

/// Where a layer decides anew. Nothing is kept of other steps, so that they allocate and search nothing.
void add_turn(const AttendRequest& request, const Sequence& sequence, const Config& config, const ExactQueries& exact,
              std::int64_t first_position, LayerState& layer, std::vector<SplitTurn>& turns) {
  const TakenSplit& taken = layer.split;
  const TakenSplit& next = exact.next();
  if (next.block == taken.block) return;
  turns.push_back({&layer, sequence.id(), request.layer, std::max(first_position, (taken.block + 1) * kSplitTokens),
                   next, exact.cost().crossover(config.max_tokens, next.selecting_over_dense),
                   exact.cost().crossover(config.max_tokens, taken.selecting_over_dense), exact.figures()});
}

/// Subtrees of `level` that hold a task's ranges; one when there are none. Streamed tasks are not cut.
std::int64_t subtrees_of(const Task& task, int level) {
  if (task.streamed) return 0;
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

void plan_tasks(const AttendRequest& request, const SequenceLock& sequences, const Config& config, const Split& split,
                StepBuffers& buffers) {
  std::vector<Task>& tasks = buffers.tasks;
  tasks.clear();
  buffers.turns.clear();
  const AttentionShape& shape = config.shape;
  const int queries_per_task = std::max(1, kVectorsPerTask / shape.group_size());
  std::int64_t first_row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    LayerState& layer = sequences[s].layer(request.layer);
    const std::int64_t queries = request.num_queries[s];
    TANDEM_CHECK(queries <= layer.length(), invalid_argument, "num_queries[", s, "] is ", queries, "; sequence ",
                 sequences[s].id(), " holds ", layer.length(), " tokens in layer ", request.layer,
                 ", and queries belong to its last tokens");
    const ExactQueries exact(request, sequences[s].selector(),
                             {longest_store(layer), layer.first_host_position(), layer.length(), layer.split}, config,
                             split);
    const std::int64_t first_position = layer.length() - queries;
    if (queries > 0) add_turn(request, sequences[s], config, exact, first_position, layer, buffers.turns);
    for (std::int64_t begin = 0; begin < queries;) {
      const std::int64_t most = std::min<std::int64_t>(queries_per_task, queries - begin);
      const auto count = static_cast<int>(exact.run_from(first_position + begin, most));
      for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
        Task task{&layer, &sequences[s].selector(), sequences[s].id(), head, first_row + begin, first_position + begin,
                  count};
        task.is_measured = exact.is_measured(task.first_position);
        task.is_probe = exact.is_probe(task.first_position);
        if (exact.at(task.first_position)) make_exact(request, task);
        tasks.push_back(task);
      }
      begin += count;
    }
    first_row += queries;
  }
}

void plan_without_index(const AttendRequest& request, const Config& config, std::vector<Task>& tasks) {
  if (!config.never_slower || !request.use_host) return;
  for (Task& task : tasks) {
    if (!task.exact && !task.head_state().index.can_select(task.selector->wanted_error())) make_exact(request, task);
  }
}

bool give_up_probes(const AttendRequest& request, std::vector<Task>& tasks) {
  bool any = false;
  for (Task& task : tasks) {
    if (task.exact || !task.is_probe) continue;
    make_exact(request, task);
    any = true;
  }
  return any;
}

void plan_pieces(const AttentionShape& shape, int num_workers, StepBuffers& buffers) {
  std::vector<Task>& tasks = buffers.tasks;
  const auto num_tasks = static_cast<std::int64_t>(tasks.size());
  const int level = num_workers == 1 ? kWholeTask : level_for(tasks, num_tasks + num_workers * kPiecesPerWorker);
  buffers.piece_level = level;
  buffers.pieces.clear();
  std::int64_t floats = 0;
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    Task& task = tasks[t];
    task.first_piece = static_cast<std::int32_t>(buffers.pieces.size());
    task.num_pieces = static_cast<std::int32_t>(subtrees_of(task, level));
    task.unfinished = task.num_pieces;
    for (std::int32_t i = 0; i < task.num_pieces; ++i) {
      buffers.pieces.push_back({static_cast<std::int32_t>(t), (task.first_range >> level) + i, floats});
      if (task.num_pieces > 1) floats += std::int64_t{task.num_queries} * shape.group_size() * (shape.head_dim_v + 1);
    }
  }
  buffers.partials.resize(static_cast<std::size_t>(floats));
  buffers.parts.assign(buffers.pieces.size() + 1, {});
  buffers.finished.assign(tasks.size(), {});
}

StepStats summed_up(const StepBuffers& buffers) {
  StepStats total;
  for (const StepStats& part : buffers.parts) total += part;
  for (const StepStats& part : buffers.finished) total += part;
  return total;
}

void average_errors(StepStats& total, std::int64_t num_vectors) noexcept {
  const double vectors = std::max(1.0, static_cast<double>(num_vectors));
  const bool known = std::isfinite(total.lse_error);
  total.lse_error = known ? total.lse_error / vectors : -1.0;
  total.out_error = known ? total.out_error / vectors : -1.0;
}

}  // namespace tandem
