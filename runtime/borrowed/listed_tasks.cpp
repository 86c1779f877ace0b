#include "runtime/borrowed/listed_tasks.h"

#include <algorithm>
#include <atomic>

#include "runtime/task_results.h"

namespace tandem {
namespace {

constexpr std::int64_t kPieceRows = 512;  // decides bits

}  // namespace

void ListedTasks::clear() noexcept {
  tasks_.clear();
  num_rows_ = 0;
  heads_.clear();
  pieces_.clear();
}

void ListedTasks::add(std::int64_t query, std::int32_t head, const VisibleRowList& visible) {
  if (tasks_.empty() || tasks_.back().query != query) {
    tasks_.push_back({query, &visible, heads_.size(), 0});
    num_rows_ += visible.rows.count();
  }
  heads_.push_back(head);
  ++tasks_.back().num_heads;
}

void ListedTasks::plan(const AttentionShape& shape) {
  std::int64_t floats = 0;
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    Task& task = tasks_[t];
    const std::int64_t rows = task.visible->rows.count();
    task.first_piece = num_pieces();
    task.num_pieces = static_cast<std::int32_t>(std::max<std::int64_t>(1, (rows + kPieceRows - 1) / kPieceRows));
    task.unfinished = task.num_pieces;
    for (std::int32_t i = 0; i < task.num_pieces; ++i) {
      pieces_.push_back({static_cast<std::int64_t>(t), i, floats});
      floats += static_cast<std::int64_t>(task.num_heads) * shape.group_size() * (shape.head_dim_v + 1);
    }
  }
  partials_.resize(static_cast<std::size_t>(floats));
  stats_.assign(pieces_.size(), {});
}

PartialAttention ListedTasks::partial(std::int64_t piece, const AttentionShape& shape) noexcept {
  const Piece& work = pieces_[static_cast<std::size_t>(piece)];
  const std::int64_t vectors =
      static_cast<std::int64_t>(tasks_[static_cast<std::size_t>(work.task)].num_heads) * shape.group_size();
  float* memory = partials_.data() + work.offset;
  return {memory, memory + vectors * shape.head_dim_v, vectors, shape.head_dim_v};
}

void ListedTasks::run(const StepContext& step, const RowTensors& rows, const float* bias_factors, std::int64_t piece,
                      WorkerScratch& scratch) {
  const Piece& work = pieces_[static_cast<std::size_t>(piece)];
  Task& task = tasks_[static_cast<std::size_t>(work.task)];
  StepStats& stats = stats_[static_cast<std::size_t>(piece)];
  const AttentionShape& shape = step.config.shape;
  const std::span<const std::int32_t> heads(heads_.data() + task.first_head, task.num_heads);
  const std::int64_t group = shape.group_size(), group_floats = group * rows.layout.padded_k;
  const cpu::RowRange range{work.index * kPieceRows, (work.index + 1) * kPieceRows};
  const auto count = static_cast<std::int64_t>(task.num_heads) *
                     std::clamp<std::int64_t>(task.visible->rows.count() - range.begin, 0, kPieceRows);
  const std::int64_t bytes = count * rows.layout.kv_bytes;
  {
    const TimelineSpan span(step.timeline, "attend",
                            {.call = step.call, .layer = step.request.layer, .rows = count, .bytes = bytes});
    Stopwatch watch;
    scratch.task.queries.assign(task.num_heads * static_cast<std::size_t>(group_floats), 0.f);
    for (std::size_t i = 0; i < heads.size(); ++i) {
      load_group(step.request.q, task.query, heads[i], shape,
                 scratch.task.queries.data() + static_cast<std::ptrdiff_t>(i) * group_floats);
    }
    cpu::listed_attention(step.kernels, {rows.layout, rows.base(0), rows.k.head_stride, shape.num_kv_heads, heads},
                          task.visible->rows, range, task.visible->bias, bias_factors, scratch.task.queries.data(),
                          shape.group_size(), shape.softcap, scratch.listed, partial(piece, shape));
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
  for (std::size_t i = 0; i < task.num_heads; ++i) {
    const std::int64_t head = heads_[task.first_head + i], vector = static_cast<std::int64_t>(i) * group;
    const PartialAttention own{merged.out + vector * merged.dim, merged.lse + vector, group, merged.dim};
    if (step.request.sink_logits != nullptr) merge_sinks(own, step.request.sink_logits + head * group);
    write_group(step.request, shape, task.query, head, as_const(own));
    const std::int64_t first = task.query * shape.num_q_heads + head * group;
    if (step.request.error != nullptr) std::fill_n(step.request.error + first, group, 0.f);
    if (step.request.certified != nullptr) std::fill_n(step.request.certified + first, group, std::uint8_t{1});
  }
}

void ListedTasks::add_stats(StepStats& total) const {
  for (const StepStats& part : stats_) total += part;
}

}  // namespace tandem
