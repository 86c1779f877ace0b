#include "runtime/borrowed/listed_tasks.h"

#include <algorithm>
#include <atomic>

#include "runtime/task_results.h"

namespace tandem {
namespace {

constexpr std::int64_t kPieceRows = 4096;  // decides bits

}  // namespace

void ListedTasks::clear() noexcept {
  tasks_.clear();
  pieces_.clear();
}

void ListedTasks::add(std::int64_t query, std::int64_t head, const VisibleRowList& visible) {
  const auto count =
      static_cast<std::int32_t>(std::max<std::int64_t>(1, (visible.rows.count() + kPieceRows - 1) / kPieceRows));
  tasks_.push_back({query, head, &visible, num_pieces(), count, count});
  for (std::int32_t i = 0; i < count; ++i) pieces_.push_back({static_cast<std::int64_t>(tasks_.size()) - 1, i});
}

void ListedTasks::plan(const AttentionShape& shape) {
  const std::int64_t floats = std::int64_t{shape.group_size()} * (shape.head_dim_v + 1);
  partials_.resize(pieces_.size() * static_cast<std::size_t>(floats));
  stats_.assign(pieces_.size(), {});
}

PartialAttention ListedTasks::partial(std::int64_t piece, const AttentionShape& shape) noexcept {
  const std::int64_t group = shape.group_size(), dim = shape.head_dim_v;
  float* memory = partials_.data() + piece * group * (dim + 1);
  return {memory, memory + group * dim, group, dim};
}

void ListedTasks::run(const StepContext& step, const RowTensors& rows, const float* bias_factors, std::int64_t piece,
                      WorkerScratch& scratch) {
  const Piece& work = pieces_[static_cast<std::size_t>(piece)];
  Task& task = tasks_[static_cast<std::size_t>(work.task)];
  StepStats& stats = stats_[static_cast<std::size_t>(piece)];
  const AttentionShape& shape = step.config.shape;
  const std::int64_t group = shape.group_size();
  const cpu::RowRange range{work.index * kPieceRows, (work.index + 1) * kPieceRows};
  const std::int64_t count = std::clamp<std::int64_t>(task.visible->rows.count() - range.begin, 0, kPieceRows);
  const std::int64_t bytes = count * rows.layout.kv_bytes;
  {
    const TimelineSpan span(
        step.timeline, "attend",
        {.call = step.call, .layer = step.request.layer, .kv_head = task.head, .rows = count, .bytes = bytes});
    Stopwatch watch;
    scratch.task.queries.assign(static_cast<std::size_t>(group * rows.layout.padded_k), 0.f);
    load_group(step.request.q, task.query, task.head, shape, scratch.task.queries.data());
    const cpu::LogitRule logits{shape.softcap, nullptr, 0,
                                bias_factors == nullptr ? nullptr : bias_factors + task.head * group};
    cpu::listed_attention(step.kernels, rows.layout, rows.base(task.head), task.visible->rows, range,
                          task.visible->bias, {scratch.task.queries.data(), nullptr, 1, shape.group_size()}, logits,
                          scratch.attention, partial(piece, shape));
    stats.trace[Stage::attend].us += watch.lap_us();
  }
  stats.trace[Stage::attend].bytes += bytes;
  stats.rows_host += count;
  stats.rows_gathered += count;
  stats.keys_attended += count * group;
  stats.keys_visible += count * group;
  // Release what this piece wrote, and see what the others did.
  if (std::atomic_ref(task.unfinished).fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  Stopwatch watch;
  finish(step, task);
  stats.trace[Stage::merge].us += watch.lap_us();
}

void ListedTasks::finish(const StepContext& step, const Task& task) {
  const AttentionShape& shape = step.config.shape;
  const std::int64_t group = shape.group_size();
  const PartialAttention merged = partial(task.first_piece, shape);
  for (std::int32_t i = 1; i < task.num_pieces; ++i)
    merge_state(merged, as_const(partial(task.first_piece + i, shape)));
  if (step.request.sink_logits != nullptr) merge_sinks(merged, step.request.sink_logits + task.head * group);
  write_group(step.request, shape, task.query, task.head, as_const(merged));
  const std::int64_t first = task.query * shape.num_q_heads + task.head * group;
  if (step.request.error != nullptr) std::fill_n(step.request.error + first, group, 0.f);
  if (step.request.certified != nullptr) std::fill_n(step.request.certified + first, group, std::uint8_t{1});
}

void ListedTasks::add_stats(StepStats& total) const {
  for (const StepStats& part : stats_) total += part;
}

}  // namespace tandem
