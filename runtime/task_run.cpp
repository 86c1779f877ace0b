#include "runtime/task_run.h"

#include <algorithm>
#include <atomic>

#include "cpu/latest_attention.h"
#include "gpu/window_policy/streaming.h"
#include "runtime/exact_attention.h"
#include "runtime/selected_attention.h"
#include "runtime/step_errors.h"
#include "runtime/task_results.h"

namespace tandem {
namespace {

PartialAttention partial_in(std::vector<float>& out, std::vector<float>& lse, std::int64_t rows, std::int64_t dim) {
  out.resize(static_cast<std::size_t>(rows * dim));
  lse.resize(static_cast<std::size_t>(rows));
  return {out.data(), lse.data(), rows, dim};
}

std::int64_t positions_between(std::int64_t first, std::int64_t last) noexcept {
  return std::max<std::int64_t>(0, last - first);
}

/// One past the last row of a window that the query at `position` may see.
std::int64_t end_of_visible(const gpu::WindowView& window, std::int64_t position) noexcept {
  if (window.visible_from == nullptr) return std::min(window.end, position + 1);
  std::int64_t end = window.end;  // entries that are not seen yet are of the last append, and rows
  while (end > 0 && window.visible_from[window.slot(end - 1)] > position) --end;
  return end;
}

cpu::LogitRule logits_of(const StepContext& step, const Task& task) {
  return {step.config.shape.softcap,
          step.request.alibi == nullptr ? nullptr : step.request.alibi + task.head * step.config.shape.group_size(),
          step.request.sliding_window};
}

/// One task, or a piece of one, on one worker.
class TaskRun {
 public:
  /// `memory` holds the task's queries.
  TaskRun(const StepContext& step, Task& task, TaskMemory& memory)
      : step_(step),
        task_(task),
        memory_(memory),
        logits_(logits_of(step, task)),
        queries_{memory.queries.data(), memory.positions.data(), task.num_queries, step.config.shape.group_size()},
        dim_v_(step.config.shape.head_dim_v) {}

  /// Stages 5 and 6 by a selector.
  void select(WorkerScratch& scratch, StepStats& stats);
  /// Stage 6 for a piece of an exact task. True for the last one to be done: the host tier's partial is complete.
  bool attend_exactly(const Piece& piece, StepBuffers& buffers, WorkerScratch& scratch, StepStats& stats);
  /// Room for the window's partial, which is empty.
  PartialAttention empty_window();
  [[nodiscard]] gpu::WindowAttention window_work(PartialAttention result) const;
  /// Room for the partial of a streamed task.
  void expect_host();
  /// Stage 6 of one.
  [[nodiscard]] gpu::HostRowsAttention host_work() const;
  /// Stage 3, here and now.
  void attend_window(StepStats& stats);
  /// Stage 7.
  void finish(StepBuffers& buffers, StepStats& stats);

 private:
  PartialAttention empty_host();
  void forget_errors();
  [[nodiscard]] PartialAttention host_partial(StepBuffers& buffers);
  void write_results(ConstPartialAttention merged);
  void count_window_rows(StepStats& stats) const;
  void count_latest_rows(StepStats& stats) const;
  void count_exact_rows(StepStats& stats) const;
  [[nodiscard]] std::int64_t num_vectors() const noexcept { return queries_.num_vectors(); }

  const StepContext& step_;
  Task& task_;
  TaskMemory& memory_;
  const cpu::LogitRule logits_;
  const cpu::QueryBlock queries_;
  const std::int64_t dim_v_;
};

/// Without a draw there is no spread, and every vector is certain.
void TaskRun::forget_errors() {
  const auto vectors = static_cast<std::size_t>(num_vectors());
  memory_.spread_weight.assign(vectors, 0.f);
  memory_.spread_value.assign(vectors * static_cast<std::size_t>(dim_v_), 0.f);
  memory_.spread_square.assign(vectors, 0.f);
  memory_.certified.assign(static_cast<std::size_t>(task_.num_queries), 1);
}

PartialAttention TaskRun::empty_host() {
  const PartialAttention host = partial_in(memory_.host_out, memory_.host_lse, num_vectors(), dim_v_);
  set_empty(host);
  return host;
}

void TaskRun::select(WorkerScratch& scratch, StepStats& stats) {
  forget_errors();
  empty_host();
  if (step_.request.use_host) attend_selected(step_, task_, queries_, logits_, memory_, scratch, stats);
}

bool TaskRun::attend_exactly(const Piece& piece, StepBuffers& buffers, WorkerScratch& scratch, StepStats& stats) {
  const bool whole = task_.num_pieces == 1;
  const PartialAttention host = whole ? empty_host() : partial_of(piece, num_vectors(), dim_v_, buffers);
  set_empty(host);
  if (step_.request.use_host) {
    TimelineSpan span(step_.timeline, "attend", subject_of(step_, task_));
    Stopwatch watch;
    span.subject.rows =
        attend_ranges(step_.kernels, task_, piece, buffers.piece_level, queries_, logits_, scratch, host);
    span.subject.bytes = span.subject.rows * task_.head_state().store.layout().kv_bytes;
    stats.trace[Stage::attend].us += watch.lap_us();
    stats.trace[Stage::attend].bytes += span.subject.bytes;
  }
  // Release what this piece wrote, and see what the others did.
  if (std::atomic_ref(task_.unfinished).fetch_sub(1, std::memory_order_acq_rel) != 1) return false;
  if (!whole) merge_pieces(task_, num_vectors(), dim_v_, buffers);
  forget_errors();
  return true;
}

void TaskRun::expect_host() {
  forget_errors();
  partial_in(memory_.host_out, memory_.host_lse, num_vectors(), dim_v_);
}

gpu::HostRowsAttention TaskRun::host_work() const {
  const HeadState& head = task_.head_state();
  return {&head.store,
          task_.layer->first_host_position(),
          head.window.kept_rows(),
          queries_,
          logits_,
          {memory_.host_out.data(), memory_.host_lse.data(), num_vectors(), dim_v_},
          numa::NodeWorkers(step_.workers, head.window.node())};
}

/// What select(), the pieces or the device have left.
PartialAttention TaskRun::host_partial(StepBuffers& buffers) {
  if (task_.num_pieces <= 1) return {memory_.host_out.data(), memory_.host_lse.data(), num_vectors(), dim_v_};
  return partial_of(buffers.pieces[static_cast<std::size_t>(task_.first_piece)], num_vectors(), dim_v_, buffers);
}

PartialAttention TaskRun::empty_window() {
  const PartialAttention window = partial_in(memory_.out, memory_.lse, num_vectors(), dim_v_);
  set_empty(window);
  return window;
}

gpu::WindowAttention TaskRun::window_work(PartialAttention result) const {
  const HeadState& head = task_.head_state();
  gpu::WindowAttention work{head.window.view(), queries_, logits_, result};
  if (step_.config.window.compact_sinks) {
    work.rope = step_.config.rope;
    work.sink_turn = gpu::sink_rotation(work.window.local_begin, work.window.sinks);
  }
  if (head.merged) work.own_entries = head.merged->own_entries(task_.first_position);
  if (task_.mass >= 0) {
    work.mass.kept = step_.mass.data() + task_.mass;
    work.mass.raw = work.mass.kept + head.window.kept()->rule().slots;
  }
  return work;
}

void TaskRun::attend_window(StepStats& stats) {
  const PartialAttention result = empty_window();
  if (!step_.request.use_window) return;
  const TimelineSpan span(step_.timeline, "window", subject_of(step_, task_));
  Stopwatch watch;
  if (task_.head_state().borrowed) {
    const LeasePool<cpu::AttentionScratch>::Lease scratch(step_.attention_scratch);
    cpu::latest_attention(step_.kernels, task_.head_state().store, task_.layer->first_host_position(), queries_,
                          logits_, *scratch, result);
  } else {
    const gpu::WindowAttention work = window_work(result);
    step_.device.window_attention(&work, 1, gpu::kWindowStream);
    step_.device.wait(gpu::kWindowStream);
  }
  stats.trace[Stage::window].us += watch.lap_us();
}

void TaskRun::count_window_rows(StepStats& stats) const {
  const gpu::WindowView window = task_.head_state().window.view();
  std::int64_t most = 0, most_coded = 0;
  for (int i = 0; i < queries_.num_queries; ++i) {
    const HeadState& head = task_.head_state();
    const std::int64_t end = end_of_visible(window, queries_.positions[i]);
    const std::int64_t first = logits_.first_visible(queries_.positions[i]);
    const std::int64_t kept =
        kept_between(head.window, {std::max<std::int64_t>(0, first - window.sinks), end - window.sinks});
    const std::int64_t rows = positions_between(first, std::min(window.sinks, end)) +
                              positions_between(std::max(first, window.local_begin), end) + kept +
                              (head.merged ? 1 : 0);  // its own entry
    stats.rows_window += rows;
    stats.keys_attended += rows * queries_.group_size;
    most = std::max(most, rows);
    most_coded =
        std::max(most_coded, positions_between(std::max(first, window.local_begin), std::min(window.raw_begin, end)));
  }
  stats.trace[Stage::window].bytes += (most - most_coded) * window.layout.kv_bytes;
  if (window.codec == nullptr) return;
  const cpu::BlockFormat& format = *window.format;
  stats.trace[Stage::window].bytes += most_coded * format.code_bytes / format.block_rows;
}

/// Of a head whose rows are borrowed, and one query.
void TaskRun::count_latest_rows(StepStats& stats) const {
  const cpu::KvStore& store = task_.head_state().store;
  const std::int64_t rows = cpu::latest_rows(store, task_.layer->first_host_position(), task_.first_position);
  stats.rows_window += rows;
  stats.keys_attended += rows * queries_.group_size;
  stats.trace[Stage::window].bytes += rows * store.layout().kv_bytes;
}

void TaskRun::count_exact_rows(StepStats& stats) const {
  for (int i = 0; i < queries_.num_queries; ++i) {
    const VisibleRows rows = visible_rows(task_, logits_, queries_.positions[i]);
    const std::int64_t visible = rows.count() - kept_between(task_.head_state().window, rows);
    stats.rows_host += visible;
    stats.rows_gathered += visible;
    stats.keys_attended += visible * queries_.group_size;
  }
}

/// Stage 7: the host tier's partial merged into the window's, to the caller.
void TaskRun::finish(StepBuffers& buffers, StepStats& stats) {
  TimelineSpan span(step_.timeline, "merge", subject_of(step_, task_));
  Stopwatch watch;
  const ConstPartialAttention host = as_const(host_partial(buffers));
  const PartialAttention merged{memory_.out.data(), memory_.lse.data(), num_vectors(), dim_v_};
  const std::int64_t group = queries_.group_size;
  merge_state(merged, host);
  if (step_.request.sink_logits != nullptr) {
    for (int i = 0; i < task_.num_queries; ++i) {
      merge_sinks({merged.out + i * group * merged.dim, merged.lse + i * group, group, merged.dim},
                  step_.request.sink_logits + task_.head * group);
    }
  }
  report_errors(step_, task_, queries_, logits_, host, as_const(merged), memory_, stats);
  write_results(as_const(merged));
  stats.trace[Stage::merge].us += watch.lap_us();
  span.subject.rows = merged.rows;
  span.subject.bytes = merged.rows * (merged.dim + 1) * 4;
  stats.trace[Stage::merge].bytes += span.subject.bytes;
  for (int i = 0; i < task_.num_queries; ++i) {
    const std::int64_t position = queries_.positions[i];
    stats.keys_visible += (position + 1 - logits_.first_visible(position)) * group;
  }
  if (task_.head_state().borrowed) {
    count_latest_rows(stats);
  } else if (step_.request.use_window) {
    count_window_rows(stats);
  }
  if (step_.request.use_host && task_.exact) count_exact_rows(stats);
}

/// The caller's out and lse.
void TaskRun::write_results(ConstPartialAttention merged) {
  const std::int64_t group = queries_.group_size;
  for (int i = 0; i < task_.num_queries; ++i) {
    write_group(step_.request, step_.config.shape, task_.first_row + i, task_.head,
                {merged.out + i * group * merged.dim, merged.lse + i * group, group, merged.dim});
  }
}

}  // namespace

void load_queries(const StepContext& step, const Task& task, TaskMemory& memory) {
  const AttentionShape& shape = step.config.shape;
  const std::int64_t group = shape.group_size();
  const std::int64_t padded_k = cpu::padded(shape.head_dim_k);
  memory.queries.assign(static_cast<std::size_t>(task.num_queries * group * padded_k), 0.f);
  memory.positions.resize(static_cast<std::size_t>(task.num_queries));
  for (int i = 0; i < task.num_queries; ++i) {
    memory.positions[static_cast<std::size_t>(i)] = task.first_position + i;
    load_group(step.request.q, task.first_row + i, task.head, shape, memory.queries.data() + i * group * padded_k);
  }
}

gpu::WindowAttention prepare_window(const StepContext& step, Task& task, TaskMemory& memory) {
  load_queries(step, task, memory);
  TaskRun run(step, task, memory);
  if (task.streamed) run.expect_host();
  return run.window_work(run.empty_window());
}

gpu::HostRowsAttention streamed_work(const StepContext& step, Task& task, TaskMemory& memory) {
  return TaskRun(step, task, memory).host_work();
}

void run_piece(const StepContext& step, const Piece& piece, StepBuffers& buffers, WorkerScratch& scratch,
               StepStats& stats) {
  const auto index = static_cast<std::size_t>(piece.task);
  Task& task = buffers.tasks[index];
  TaskMemory& memory = step.window == nullptr ? scratch.task : buffers.memories[index];
  if (step.window == nullptr) load_queries(step, task, memory);
  TaskRun run(step, task, memory);
  // First, where it may be asked for: a wanted error is relative to the merged output.
  if (step.window == nullptr && !task.exact) run.attend_window(stats);
  bool complete = true;
  if (task.exact) {
    complete = run.attend_exactly(piece, buffers, scratch, stats);
  } else {
    run.select(scratch, stats);
  }
  if (step.window != nullptr || !complete) return;
  if (task.exact) run.attend_window(buffers.finished[index]);
  run.finish(buffers, buffers.finished[index]);
}

void finish_task(const StepContext& step, std::int64_t task, StepBuffers& buffers) {
  const auto index = static_cast<std::size_t>(task);
  TaskRun(step, buffers.tasks[index], buffers.memories[index]).finish(buffers, buffers.finished[index]);
}

}  // namespace tandem
