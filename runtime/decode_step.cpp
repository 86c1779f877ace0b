// One attention step of one layer: stages 3 to 7 of runtime/README.md, in order.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>

#include "lsh/estimate.h"
#include "runtime/base/error.h"
#include "runtime/exact_attention.h"
#include "runtime/observe_queries.h"
#include "runtime/request_check.h"
#include "runtime/runtime.h"
#include "runtime/selected_attention.h"
#include "runtime/step_context.h"

namespace tandem {
namespace {

constexpr gpu::Stream kStream{};

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
    TANDEM_CHECK(request.sinks == nullptr || request.sinks[h] < std::numeric_limits<float>::infinity(),
                 invalid_argument, "sinks[", h, "] is ", request.sinks[h], "; it must be finite, or -inf for none");
    TANDEM_CHECK(request.alibi == nullptr || std::abs(request.alibi[h]) <= kMaxMagnitude, invalid_argument, "alibi[", h,
                 "] is ", request.alibi[h], "; allowed: magnitudes up to ", kMaxMagnitude);
  }
}

/// Loads the task's queries as scaled, padded fp32 vectors.
cpu::QueryBlock load_queries(const StepContext& step, const Task& task, WorkerScratch& scratch) {
  const AttentionShape& shape = step.config.shape;
  const std::int64_t group = shape.group_size();
  const std::int64_t padded_k = cpu::padded(shape.head_dim_k);
  scratch.queries.assign(static_cast<std::size_t>(task.num_queries * group * padded_k), 0.f);
  scratch.positions.resize(static_cast<std::size_t>(task.num_queries));
  float* vector = scratch.queries.data();
  for (int i = 0; i < task.num_queries; ++i) {
    scratch.positions[static_cast<std::size_t>(i)] = task.first_position + i;
    for (std::int64_t h = 0; h < group; ++h, vector += padded_k) {
      load_f32(step.request.q.dtype, step.request.q.row(task.first_row + i, task.head * group + h), vector,
               shape.head_dim_k);
      for (std::int32_t d = 0; d < shape.head_dim_k; ++d) vector[d] *= shape.scale;
    }
  }
  return {scratch.queries.data(), scratch.positions.data(), task.num_queries, shape.group_size()};
}

PartialAttention partial_in(std::vector<float>& out, std::vector<float>& lse, std::int64_t rows, std::int64_t dim) {
  out.resize(static_cast<std::size_t>(rows * dim));
  lse.resize(static_cast<std::size_t>(rows));
  return {out.data(), lse.data(), rows, dim};
}

std::int64_t positions_between(std::int64_t first, std::int64_t last) noexcept {
  return std::max<std::int64_t>(0, last - first);
}

/// Stage 3: the window's partial.
void attend_window(const StepContext& step, const Task& task, const cpu::QueryBlock& queries,
                   const cpu::LogitRule& logits, PartialAttention result, StepStats& stats) {
  Stopwatch watch;
  const gpu::WindowView window = task.layer->window.view(task.head);
  const gpu::WindowAttention work{window, queries, logits, result};
  step.device.window_attention({&work, 1}, kStream);
  step.device.wait(kStream);
  std::int64_t most = 0;
  for (int i = 0; i < queries.num_queries; ++i) {
    const std::int64_t end = std::min(window.end, queries.positions[i] + 1);
    const std::int64_t first = logits.first_visible(queries.positions[i]);
    const std::int64_t rows = positions_between(first, std::min(window.sinks, end)) +
                              positions_between(std::max(first, window.local_begin), end);
    stats.rows_window += rows;
    stats.keys_attended += rows * queries.group_size;
    most = std::max(most, rows);
  }
  stats.trace[Stage::window].us += watch.lap_us();
  stats.trace[Stage::window].bytes += most * window.layout.kv_bytes;
}

const cpu::KvStore& host_store(const Task& task) {
  return task.layer->heads[static_cast<std::size_t>(task.head)].store;
}

/// Stage 5 and 6 without a selection: every visible row of one piece, all queries in one pass.
void attend_host_exactly(const StepContext& step, const Task& task, const Piece& piece, const cpu::QueryBlock& queries,
                         const cpu::LogitRule& logits, WorkerScratch& scratch, PartialAttention result,
                         StepStats& stats) {
  Stopwatch watch;
  const std::int64_t rows = attend_ranges(step.kernels, task, piece, queries, logits, scratch, result);
  stats.trace[Stage::attend].us += watch.lap_us();
  stats.trace[Stage::attend].bytes += rows * host_store(task).layout().kv_bytes;
}

void count_exact_rows(const Task& task, const cpu::QueryBlock& queries, const cpu::LogitRule& logits,
                      StepStats& stats) {
  for (int i = 0; i < queries.num_queries; ++i) {
    const std::int64_t visible =
        visible_rows(host_store(task), task.layer->window.sinks(), logits, queries.positions[i]).count();
    stats.rows_host += visible;
    stats.rows_gathered += visible;
    stats.keys_attended += visible * queries.group_size;
  }
}

/// Adds up what the spread of the host tier's estimate tells about every merged vector, and hands it to the caller.
/// Infinite sums when a head sampled none of the rows that it could see: nothing is known about what it missed.
void estimate_errors(const StepContext& step, const Task& task, const cpu::QueryBlock& queries,
                     const cpu::LogitRule& logits, ConstPartialAttention host, ConstPartialAttention merged,
                     const WorkerScratch& scratch, StepStats& stats) {
  const cpu::KvStore& store = host_store(task);
  const bool whole = step.request.use_window && step.request.use_host;
  for (std::int64_t v = 0; v < host.rows; ++v) {
    const std::int64_t query = v / queries.group_size;
    const auto i = static_cast<std::size_t>(v);
    bool known = whole && (task.exact || task.selector->estimates_error());
    bool certified = known && scratch.certified[static_cast<std::size_t>(query)] != 0;
    double lse_error = 0;
    double relative = 0;
    if (visible_rows(store, task.layer->window.sinks(), logits, queries.positions[query]).count() > 0) {
      known = known && !std::isinf(host.lse[v]);
      const double share = std::exp(static_cast<double>(host.lse[v]) - merged.lse[v]);
      const float* out = merged.out + v * merged.dim;
      const double norm = std::sqrt(std::inner_product(out, out + merged.dim, out, 0.0));
      const double error = lsh::out_error(scratch.spread_weight[i], scratch.spread_value.data() + v * merged.dim,
                                          scratch.spread_square[i], share, out, merged.dim);
      lse_error = share * std::sqrt(static_cast<double>(scratch.spread_weight[i]));
      relative = error > 0 ? (norm > 0 ? std::min(1.0, error / norm) : 1.0) : 0.0;
      certified = certified && known;
    }
    stats.lse_error += known ? lse_error : std::numeric_limits<double>::infinity();
    stats.out_error += known ? relative : std::numeric_limits<double>::infinity();
    stats.uncertified += certified ? 0 : 1;
    const std::int64_t at = (task.first_row + query) * step.config.shape.num_q_heads + task.head * queries.group_size +
                            v % queries.group_size;
    if (step.request.error != nullptr) step.request.error[at] = known ? static_cast<float>(relative) : -1.f;
    if (step.request.certified != nullptr) step.request.certified[at] = certified ? 1 : 0;
  }
}

/// The caller's out and lse from the merged partial.
void write_results(const StepContext& step, const Task& task, std::int64_t group, ConstPartialAttention merged) {
  for (int i = 0; i < task.num_queries; ++i) {
    for (std::int64_t h = 0; h < group; ++h) {
      const std::int64_t v = i * group + h;
      const std::int64_t q_head = task.head * group + h;
      store_f32(step.request.out.dtype, merged.out + v * merged.dim, step.request.out.row(task.first_row + i, q_head),
                merged.dim);
      if (step.request.lse != nullptr) {
        step.request.lse[(task.first_row + i) * step.config.shape.num_q_heads + q_head] = merged.lse[v];
      }
    }
  }
}

cpu::LogitRule logits_of(const StepContext& step, const Task& task) {
  return {step.config.shape.softcap,
          step.request.alibi == nullptr ? nullptr : step.request.alibi + task.head * step.config.shape.group_size(),
          step.request.sliding_window};
}

/// Stage 3: the window's partial, in scratch.
PartialAttention attend_window(const StepContext& step, const Task& task, const cpu::QueryBlock& queries,
                               const cpu::LogitRule& logits, WorkerScratch& scratch, StepStats& stats) {
  const PartialAttention window =
      partial_in(scratch.out, scratch.lse, queries.num_vectors(), step.config.shape.head_dim_v);
  set_empty(window);
  if (step.request.use_window) attend_window(step, task, queries, logits, window, stats);
  return window;
}

/// Stage 7: the host tier's partial merged into the window's, to the caller.
void finish_task(const StepContext& step, const Task& task, const cpu::QueryBlock& queries,
                 const cpu::LogitRule& logits, ConstPartialAttention host, PartialAttention merged,
                 WorkerScratch& scratch, StepStats& stats) {
  Stopwatch watch;
  const std::int64_t group = queries.group_size;
  step.device.merge_state(merged, host, kStream);
  if (step.request.sinks != nullptr) {
    for (int i = 0; i < task.num_queries; ++i) {
      merge_sinks({merged.out + i * group * merged.dim, merged.lse + i * group, group, merged.dim},
                  step.request.sinks + task.head * group);
    }
  }
  estimate_errors(step, task, queries, logits, host, as_const(merged), scratch, stats);
  write_results(step, task, group, as_const(merged));
  stats.trace[Stage::merge].us += watch.lap_us();
  stats.trace[Stage::merge].bytes += merged.rows * (merged.dim + 1) * 4;
  for (int i = 0; i < task.num_queries; ++i) {
    const std::int64_t position = queries.positions[i];
    stats.keys_visible += (position + 1 - logits.first_visible(position)) * group;
  }
}

/// A piece of an exact task; the last one to be done finishes the task.
void run_exact_piece(const StepContext& step, const Piece& piece, Task& task, const cpu::QueryBlock& queries,
                     StepBuffers& buffers, WorkerScratch& scratch, StepStats& stats) {
  const cpu::LogitRule logits = logits_of(step, task);
  const std::int64_t vectors = queries.num_vectors();
  const std::int64_t dim_v = step.config.shape.head_dim_v;
  const bool whole = task.num_pieces == 1;
  PartialAttention host = whole ? partial_in(scratch.host_out, scratch.host_lse, vectors, dim_v)
                                : partial_of(piece, vectors, dim_v, buffers);
  set_empty(host);
  if (step.request.use_host) attend_host_exactly(step, task, piece, queries, logits, scratch, host, stats);
  // Release what this piece wrote, and see what the others did.
  if (std::atomic_ref(task.unfinished).fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (!whole) host = merge_pieces(task, vectors, dim_v, buffers);
  StepStats& finished = buffers.finished[static_cast<std::size_t>(piece.task)];
  finished = {};
  const PartialAttention merged = attend_window(step, task, queries, logits, scratch, finished);
  finish_task(step, task, queries, logits, as_const(host), merged, scratch, finished);
  if (step.request.use_host) count_exact_rows(task, queries, logits, finished);
}

void run_piece(const StepContext& step, std::int64_t index, StepBuffers& buffers, WorkerScratch& scratch) {
  const Piece& piece = buffers.pieces[static_cast<std::size_t>(index)];
  Task& task = buffers.tasks[static_cast<std::size_t>(piece.task)];
  StepStats& stats = buffers.parts[static_cast<std::size_t>(index)];
  const cpu::QueryBlock queries = load_queries(step, task, scratch);
  const auto vectors = static_cast<std::size_t>(queries.num_vectors());
  const std::int64_t dim_v = step.config.shape.head_dim_v;
  scratch.spread_weight.assign(vectors, 0.f);
  scratch.spread_value.assign(vectors * static_cast<std::size_t>(dim_v), 0.f);
  scratch.spread_square.assign(vectors, 0.f);
  scratch.certified.assign(static_cast<std::size_t>(task.num_queries), 1);
  if (task.exact) {
    run_exact_piece(step, piece, task, queries, buffers, scratch, stats);
    return;
  }
  const cpu::LogitRule logits = logits_of(step, task);
  const PartialAttention merged = attend_window(step, task, queries, logits, scratch, stats);
  const PartialAttention host = partial_in(scratch.host_out, scratch.host_lse, queries.num_vectors(), dim_v);
  set_empty(host);
  if (step.request.use_host) {
    attend_selected(step, task, queries, logits, as_const(merged), scratch, host, stats);
  }
  finish_task(step, task, queries, logits, as_const(host), merged, scratch, stats);
}

}  // namespace

double Runtime::extend_indexes(StepBuffers& buffers) {
  buffers.unindexed.clear();
  buffers.nodes.clear();
  const LayerState* done = nullptr;
  for (const Task& task : buffers.tasks) {  // those of a sequence are consecutive, and so are those of its heads
    if (task.exact || task.layer == done) continue;
    HeadState& head = task.layer->heads[static_cast<std::size_t>(task.head)];
    if (task.head + 1 == static_cast<std::int64_t>(task.layer->heads.size())) done = task.layer;
    if (!head.index.lacks_rows_of(head.store, head.queries)) continue;
    buffers.unindexed.push_back(&head);
    buffers.nodes.push_back(task.layer->window.node_of(task.head));
  }
  if (buffers.unindexed.empty()) return 0.0;
  std::vector<double> us(buffers.unindexed.size());
  std::vector<lsh::HeadIndex::Extension> extensions(buffers.unindexed.size());
  workers_.run(buffers.nodes, [&](std::int64_t i) {
    const LeasePool<WorkerScratch>::Lease scratch(scratch_);
    const HeadState& head = *buffers.unindexed[static_cast<std::size_t>(i)];
    Stopwatch watch;
    extensions[static_cast<std::size_t>(i)] = head.index.prepare(kernels_, head.store, head.queries, scratch->select);
    us[static_cast<std::size_t>(i)] = watch.lap_us();
  });
  for (std::size_t i = 0; i < us.size(); ++i) {  // all heads or none: whatever can be refused has been by now
    buffers.unindexed[i]->index.commit(std::move(extensions[i]));
    buffers.unindexed[i]->index_us += us[i];
  }
  return std::accumulate(us.begin(), us.end(), 0.0);
}

StepStats Runtime::attend(const AttendRequest& request) {
  Stopwatch watch;
  check_layer(request.layer);
  check(request, config_.shape);
  const LeasePool<StepBuffers>::Lease buffers(step_buffers_);
  find(request.sequences, buffers->sequences);
  const SequenceLock sequences(buffers->sequences);
  plan_tasks(request, sequences, config_, buffers->tasks);
  StepStats total;
  std::int64_t first_row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    observe_queries(request.q, first_row, request.num_queries[s], config_.shape, sequences[s].layer(request.layer),
                    *buffers);
    first_row += request.num_queries[s];
  }
  if (request.use_host) total.trace[Stage::index].us = extend_indexes(*buffers);
  plan_without_index(request, config_, buffers->tasks);
  plan_pieces(config_.shape, workers_.num_workers(), *buffers);

  struct Run {
    StepContext step;
    LeasePool<WorkerScratch>& scratch;
    StepBuffers& buffers;
  } run{{request, config_, kernels_, *device_, workers_, attention_scratch_}, scratch_, *buffers};
  run.buffers.nodes.clear();
  for (const Piece& piece : run.buffers.pieces) {
    const Task& task = run.buffers.tasks[static_cast<std::size_t>(piece.task)];
    run.buffers.nodes.push_back(task.layer->window.node_of(task.head));
  }
  workers_.run(run.buffers.nodes, [&run](std::int64_t i) {  // one pointer: a std::function that allocates nothing
    const LeasePool<WorkerScratch>::Lease scratch(run.scratch);
    run_piece(run.step, i, run.buffers, *scratch);
  });
  for (const StepStats& part : run.buffers.parts) total += part;  // in the order of the plan: sums keep their bits
  for (const StepStats& part : run.buffers.finished) total += part;
  const auto vectors = static_cast<double>(request.q.tokens * config_.shape.num_q_heads);
  const bool known = std::isfinite(total.lse_error);
  total.lse_error = known ? total.lse_error / std::max(1.0, vectors) : -1.0;
  total.out_error = known ? total.out_error / std::max(1.0, vectors) : -1.0;
  total.total_us = watch.lap_us();
  return total;
}

}  // namespace tandem
