// One attention step of one layer: what runtime/README.md draws, in order.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "gpu/window_policy/streaming.h"
#include "runtime/attention_mass.h"
#include "runtime/base/error.h"
#include "runtime/exact_attention.h"
#include "runtime/observe_queries.h"
#include "runtime/request_check.h"
#include "runtime/runtime.h"
#include "runtime/selected_attention.h"
#include "runtime/step_context.h"
#include "runtime/step_errors.h"

namespace tandem {
namespace {

void check(const AttendRequest& request, const AttentionShape& shape) {
  const std::int64_t queries = check_counts("num_queries", request.sequences, request.num_queries);
  TANDEM_CHECK(request.use_window || request.use_host, invalid_argument,
               "parts selects neither TD_PART_STATIC nor TD_PART_DYNAMIC");
  TANDEM_CHECK(request.sliding_window >= 0, invalid_argument, "sliding_window is ", request.sliding_window,
               "; it must be 0 (none) or positive");
  check_finite_tensor(request.q, {"q", queries, shape.num_q_heads, shape.head_dim_k});
  const MutableTensorView& out = request.out;
  check_tensor({out.data, out.dtype, out.tokens, out.heads, out.dim, out.token_stride, out.head_stride},
               {"out", queries, shape.num_q_heads, shape.head_dim_v});
  for (std::int32_t h = 0; h < shape.num_q_heads; ++h) {
    TANDEM_CHECK(request.sink_logits == nullptr || request.sink_logits[h] < std::numeric_limits<float>::infinity(),
                 invalid_argument, "sinks[", h, "] is ", request.sink_logits[h],
                 "; it must be finite, or -inf for none");
    TANDEM_CHECK(request.alibi == nullptr || std::abs(request.alibi[h]) <= kMaxMagnitude, invalid_argument, "alibi[", h,
                 "] is ", request.alibi[h], "; allowed: magnitudes up to ", kMaxMagnitude);
  }
}

/// Where tokens are merged, a query needs the state in which its token left its entry.
void check_own_entries(const AttendRequest& request, const SequenceLock& sequences, const Config& config) {
  if (!config.window.merge) return;
  TANDEM_CHECK(request.sliding_window == 0 && request.alibi == nullptr, unsupported,
               "window_policy is dmc; sliding_window and alibi need the positions of single tokens");
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const MergedTokens& merged = *sequences[s].layer(request.layer).heads.front().merged;
    const std::int64_t own = merged.tokens() - merged.first_own();
    TANDEM_CHECK(request.num_queries[s] <= own, invalid_state, "num_queries[", s, "] is ", request.num_queries[s],
                 "; with window_policy dmc queries belong to the ", own, " tokens of the last append to sequence ",
                 sequences[s].id());
  }
}

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

/// One task, or a piece of one, on one worker. What it computes on the way lies in the worker's scratch.
class TaskRun {
 public:
  TaskRun(const StepContext& step, Task& task, WorkerScratch& scratch)
      : step_(step),
        task_(task),
        scratch_(scratch),
        logits_(logits_of(step, task)),
        queries_(load_queries()),
        dim_v_(step.config.shape.head_dim_v) {}

  void select_and_finish(StepStats& stats);
  /// A piece of an exact task; the last one to be done finishes the task.
  void attend_exactly(const Piece& piece, StepBuffers& buffers, StepStats& stats);

 private:
  cpu::QueryBlock load_queries();
  void forget_errors();
  [[nodiscard]] gpu::WindowAttention window_work(PartialAttention result) const;
  PartialAttention attend_window(StepStats& stats);
  void finish(ConstPartialAttention host, PartialAttention merged, StepStats& stats);
  void write_results(ConstPartialAttention merged);
  void count_window_rows(StepStats& stats) const;
  void count_exact_rows(StepStats& stats) const;
  [[nodiscard]] std::int64_t num_vectors() const noexcept { return queries_.num_vectors(); }

  const StepContext& step_;
  Task& task_;
  WorkerScratch& scratch_;
  const cpu::LogitRule logits_;
  const cpu::QueryBlock queries_;
  const std::int64_t dim_v_;
};

/// Stage 2: the task's queries as scaled, padded fp32 vectors.
cpu::QueryBlock TaskRun::load_queries() {
  const AttentionShape& shape = step_.config.shape;
  const std::int64_t group = shape.group_size();
  const std::int64_t padded_k = cpu::padded(shape.head_dim_k);
  scratch_.queries.assign(static_cast<std::size_t>(task_.num_queries * group * padded_k), 0.f);
  scratch_.positions.resize(static_cast<std::size_t>(task_.num_queries));
  float* vector = scratch_.queries.data();
  for (int i = 0; i < task_.num_queries; ++i) {
    scratch_.positions[static_cast<std::size_t>(i)] = task_.first_position + i;
    for (std::int64_t h = 0; h < group; ++h, vector += padded_k) {
      load_f32(step_.request.q.dtype, step_.request.q.row(task_.first_row + i, task_.head * group + h), vector,
               shape.head_dim_k);
      for (std::int32_t d = 0; d < shape.head_dim_k; ++d) vector[d] *= shape.scale;
    }
  }
  return {scratch_.queries.data(), scratch_.positions.data(), task_.num_queries, shape.group_size()};
}

/// Without a draw there is no spread, and every vector is certain.
void TaskRun::forget_errors() {
  const auto vectors = static_cast<std::size_t>(num_vectors());
  scratch_.spread_weight.assign(vectors, 0.f);
  scratch_.spread_value.assign(vectors * static_cast<std::size_t>(dim_v_), 0.f);
  scratch_.spread_square.assign(vectors, 0.f);
  scratch_.certified.assign(static_cast<std::size_t>(task_.num_queries), 1);
}

void TaskRun::select_and_finish(StepStats& stats) {
  forget_errors();
  const PartialAttention merged = attend_window(stats);
  const PartialAttention host = partial_in(scratch_.host_out, scratch_.host_lse, num_vectors(), dim_v_);
  set_empty(host);
  if (step_.request.use_host) {
    attend_selected(step_, task_, queries_, logits_, as_const(merged), scratch_, host, stats);
  }
  finish(as_const(host), merged, stats);
}

void TaskRun::attend_exactly(const Piece& piece, StepBuffers& buffers, StepStats& stats) {
  const bool whole = task_.num_pieces == 1;
  PartialAttention host = whole ? partial_in(scratch_.host_out, scratch_.host_lse, num_vectors(), dim_v_)
                                : partial_of(piece, num_vectors(), dim_v_, buffers);
  set_empty(host);
  if (step_.request.use_host) {
    Stopwatch watch;
    const std::int64_t rows =
        attend_ranges(step_.kernels, task_, piece, buffers.piece_level, queries_, logits_, scratch_, host);
    stats.trace[Stage::attend].us += watch.lap_us();
    stats.trace[Stage::attend].bytes += rows * task_.head_state().store.layout().kv_bytes;
  }
  // Release what this piece wrote, and see what the others did.
  if (std::atomic_ref(task_.unfinished).fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (!whole) host = merge_pieces(task_, num_vectors(), dim_v_, buffers);
  forget_errors();
  StepStats& finished = buffers.finished[static_cast<std::size_t>(piece.task)];
  finished = {};
  const PartialAttention merged = attend_window(finished);
  finish(as_const(host), merged, finished);
  if (step_.request.use_host) count_exact_rows(finished);
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

/// Stage 3: the window's partial, in scratch.
PartialAttention TaskRun::attend_window(StepStats& stats) {
  const PartialAttention result = partial_in(scratch_.out, scratch_.lse, num_vectors(), dim_v_);
  set_empty(result);
  if (!step_.request.use_window) return result;
  Stopwatch watch;
  const gpu::WindowAttention work = window_work(result);
  step_.device.window_attention(&work, 1, gpu::kWindowStream);
  step_.device.wait(gpu::kWindowStream);
  count_window_rows(stats);
  stats.trace[Stage::window].us += watch.lap_us();
  return result;
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
void TaskRun::finish(ConstPartialAttention host, PartialAttention merged, StepStats& stats) {
  Stopwatch watch;
  const std::int64_t group = queries_.group_size;
  merge_state(merged, host);
  if (step_.request.sink_logits != nullptr) {
    for (int i = 0; i < task_.num_queries; ++i) {
      merge_sinks({merged.out + i * group * merged.dim, merged.lse + i * group, group, merged.dim},
                  step_.request.sink_logits + task_.head * group);
    }
  }
  report_errors(step_, task_, queries_, logits_, host, as_const(merged), scratch_, stats);
  write_results(as_const(merged));
  stats.trace[Stage::merge].us += watch.lap_us();
  stats.trace[Stage::merge].bytes += merged.rows * (merged.dim + 1) * 4;
  for (int i = 0; i < task_.num_queries; ++i) {
    const std::int64_t position = queries_.positions[i];
    stats.keys_visible += (position + 1 - logits_.first_visible(position)) * group;
  }
}

/// The caller's out and lse.
void TaskRun::write_results(ConstPartialAttention merged) {
  const std::int64_t group = queries_.group_size;
  for (int i = 0; i < task_.num_queries; ++i) {
    for (std::int64_t h = 0; h < group; ++h) {
      const std::int64_t v = i * group + h;
      const std::int64_t q_head = task_.head * group + h;
      store_f32(step_.request.out.dtype, merged.out + v * merged.dim,
                step_.request.out.row(task_.first_row + i, q_head), merged.dim);
      if (step_.request.lse != nullptr) {
        step_.request.lse[(task_.first_row + i) * step_.config.shape.num_q_heads + q_head] = merged.lse[v];
      }
    }
  }
}

void run_piece(const StepContext& step, std::int64_t index, StepBuffers& buffers, WorkerScratch& scratch) {
  const Piece& piece = buffers.pieces[static_cast<std::size_t>(index)];
  Task& task = buffers.tasks[static_cast<std::size_t>(piece.task)];
  StepStats& stats = buffers.parts[static_cast<std::size_t>(index)];
  TaskRun run(step, task, scratch);
  if (task.exact) {
    run.attend_exactly(piece, buffers, stats);
  } else {
    run.select_and_finish(stats);
  }
}

/// Sums over all pieces and tasks, in the order of the plan, so that they keep their bits; estimates become means.
StepStats summed_up(const StepBuffers& buffers, std::int64_t num_vectors) {
  StepStats total;
  for (const StepStats& part : buffers.parts) total += part;
  for (const StepStats& part : buffers.finished) total += part;
  const double vectors = std::max(1.0, static_cast<double>(num_vectors));
  const bool known = std::isfinite(total.lse_error);
  total.lse_error = known ? total.lse_error / vectors : -1.0;
  total.out_error = known ? total.out_error / vectors : -1.0;
  return total;
}

}  // namespace

StepStats Runtime::attend_open(const AttendRequest& request) {
  Stopwatch watch;
  check_layer(request.layer);
  check(request, config_.shape);
  const LeasePool<StepBuffers>::Lease buffers(step_buffers_);
  find(request.sequences, buffers->sequences);
  const SequenceLock sequences(buffers->sequences);
  plan_tasks(request, sequences, config_, buffers->tasks);
  check_own_entries(request, sequences, config_);
  std::int64_t first_row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    observe_queries(request.q, first_row, request.num_queries[s], config_.shape, sequences[s].layer(request.layer),
                    *buffers);
    first_row += request.num_queries[s];
  }
  const double index_us = request.use_host ? extend_indexes(*buffers) : 0.0;
  plan_without_index(request, config_, buffers->tasks);
  plan_pieces(config_.shape, workers_.num_workers(), *buffers);
  plan_mass(request, *buffers);
  run_pieces(request, *buffers);
  accumulate_mass(*buffers);

  StepStats total = summed_up(*buffers, request.q.tokens * config_.shape.num_q_heads);
  total.trace[Stage::index].us = index_us;
  total.total_us = watch.lap_us();
  return total;
}

void Runtime::run_pieces(const AttendRequest& request, StepBuffers& buffers) {
  struct Run {
    StepContext step;
    LeasePool<WorkerScratch>& scratch;
    StepBuffers& buffers;
  } run{{request, config_, kernels_, *device_, workers_, attention_scratch_, buffers.mass}, scratch_, buffers};
  buffers.nodes.clear();
  for (const Piece& piece : buffers.pieces) {
    const Task& task = buffers.tasks[static_cast<std::size_t>(piece.task)];
    buffers.nodes.push_back(task.head_state().window.node());
  }
  workers_.run(buffers.nodes, [&run](std::int64_t i) {  // one pointer: a std::function that allocates nothing
    const LeasePool<WorkerScratch>::Lease scratch(run.scratch);
    run_piece(run.step, i, run.buffers, *scratch);
  });
}

}  // namespace tandem
