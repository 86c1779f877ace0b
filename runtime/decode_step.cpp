// One attention step of one layer: what runtime/README.md draws, in order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "runtime/attention_mass.h"
#include "runtime/base/error.h"
#include "runtime/device_tensors.h"
#include "runtime/observe_queries.h"
#include "runtime/request_check.h"
#include "runtime/row_overlap.h"
#include "runtime/runtime.h"
#include "runtime/split_step.h"
#include "runtime/step_context.h"
#include "runtime/streamed_tasks.h"
#include "runtime/task_run.h"

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

/// Of what the caller gave, also where it lies on the device: whether a copy of q is attended is not the caller's
/// affair.
void check_inputs_kept(const AttendRequest& given, const AttentionShape& shape) {
  check_apart("out", given.out, "q", given.q);
  if (given.sink_logits != nullptr)
    check_apart("out", given.out, "sinks", dense_view(given.sink_logits, DType::f32, 1, 1, shape.num_q_heads));
  if (given.alibi != nullptr)
    check_apart("out", given.out, "alibi", dense_view(given.alibi, DType::f32, 1, 1, shape.num_q_heads));
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

/// The queries of all sequences, to the logs of their heads.
void observe(const AttendRequest& request, const SequenceLock& sequences, const AttentionShape& shape,
             StepBuffers& buffers) {
  std::int64_t first_row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    LayerState& layer = sequences[s].layer(request.layer);
    observe_queries(request.q, first_row, request.num_queries[s], shape, layer, layer.length(), buffers);
    first_row += request.num_queries[s];
  }
}

/// A call of `run` that returns only when the device has done with the memory of the step, also where it throws.
template <typename Run, typename Wait>
void beside(const Run& run, const Wait& wait) {
  try {
    run();
  } catch (...) {
    wait();
    throw;
  }
  wait();
}

}  // namespace

StepStats Runtime::attend_open(const AttendRequest& given, std::int64_t call) {
  const SpanSubject about{.call = call, .layer = given.layer};
  TimelineSpan span(timeline_, "td_attend", about);
  Stopwatch watch;
  check_layer(given.layer);
  const LeasePool<StepBuffers>::Lease buffers(step_buffers_);
  const AttendRequest request = on_host(given, config_.shape, *device_, *buffers);
  check(request, config_.shape);
  check_inputs_kept(given, config_.shape);
  find(request.sequences, buffers->sequences);
  const SequenceLock sequences(buffers->sequences);
  plan_tasks(request, sequences, config_, split_, *buffers);
  check_own_entries(request, sequences, config_);
  observe(request, sequences, config_.shape, *buffers);
  plan_mass(request, *buffers);
  WindowBatch window(*device_, timeline_, about);
  const bool streams = plan_streaming(request, config_, host_layout_, *device_, buffers->tasks);
  const bool apart = streams || (request.use_window && device_->is_asynchronous());
  const StepContext step{
      request,       config_,
      kernels_,      *device_,
      workers_,      attention_scratch_,
      buffers->mass, timeline_,
      call,          apart ? &window : nullptr,
  };
  if (apart) launch_windows(step, *buffers);
  double index_us = 0;
  beside([&] { index_us = attend_host(step, *buffers); },
         [&] {
           if (apart) window.wait();
         });
  if (apart) run_tasks(step, *buffers, finish_task);
  put_results(given, request, *device_);
  accumulate_mass(*buffers);
  measure_split(step, *buffers, split_);
  take_over(buffers->turns);

  StepStats total = summed_up(*buffers);
  average_errors(total, request.q.tokens * config_.shape.num_q_heads);
  total.trace[Stage::index].us = index_us;
  total.trace[Stage::window].us += window.host_us();
  total.total_us = watch.lap_us();
  span.subject.rows = total.rows_window + total.rows_gathered;
  span.subject.bytes = total.trace.bytes();
  return total;
}

void Runtime::run_tasks(const StepContext& step, StepBuffers& buffers, TaskStage stage) {
  // A worker takes longer to wake up than a decode step's queries to load.
  constexpr std::int64_t kFewFloats = std::int64_t{1} << 15;
  const auto num_tasks = static_cast<std::int64_t>(buffers.tasks.size());
  if (step.request.q.tokens * config_.shape.num_q_heads * config_.shape.head_dim_k <= kFewFloats) {
    for (std::int64_t i = 0; i < num_tasks; ++i) stage(step, i, buffers);
    return;
  }
  struct Run {
    const StepContext& step;
    StepBuffers& buffers;
    TaskStage stage;
  } run{step, buffers, stage};
  buffers.nodes.clear();
  for (const Task& task : buffers.tasks) buffers.nodes.push_back(task.head_state().window.node());
  workers_.run(buffers.nodes, [&run](std::int64_t i) { run.stage(run.step, i, run.buffers); });
}

void Runtime::launch_windows(const StepContext& step, StepBuffers& buffers) {
  const std::size_t num_tasks = buffers.tasks.size();
  if (buffers.memories.size() < num_tasks) buffers.memories.resize(num_tasks);
  buffers.windows.resize(num_tasks);
  {
    const TimelineSpan span(timeline_, "load", {.call = step.call, .layer = step.request.layer});
    run_tasks(step, buffers, [](const StepContext& run, std::int64_t task, StepBuffers& all) {
      const auto i = static_cast<std::size_t>(task);
      all.windows[i] = prepare_window(run, all.tasks[i], all.memories[i]);
    });
  }
  if (step.request.use_window) step.window->launch(buffers.windows);
}

double Runtime::attend_host(const StepContext& step, StepBuffers& buffers) {
  const double index_us = step.request.use_host ? extend_probed_indexes(step, buffers) : 0.0;
  plan_without_index(step.request, config_, buffers.tasks);
  plan_pieces(config_.shape, workers_.num_workers(), buffers);
  StreamedTasks streamed(step, buffers);
  struct Run {
    const StepContext& step;
    LeasePool<WorkerScratch>& scratch;
    StepBuffers& buffers;
    StreamedTasks& streamed;
    std::size_t first_piece;
  } run{step, scratch_, buffers, streamed, streamed.collect() ? std::size_t{1} : 0};
  buffers.nodes.assign(run.first_piece, streamed.node());
  for (const Piece& piece : buffers.pieces) {
    const Task& task = buffers.tasks[static_cast<std::size_t>(piece.task)];
    buffers.nodes.push_back(task.head_state().window.node());
  }
  StepStats& of_streamed = buffers.parts.back();
  // Taken here: a worker who waited for it would keep a place in the arena from whoever has it and splits its copying.
  std::unique_lock turn(streaming_, std::defer_lock);
  if (run.first_piece > 0) turn.lock();
  const auto run_all = [&] {
    workers_.run(buffers.nodes, [&run](std::int64_t i) {  // one pointer: a std::function that allocates nothing
      auto index = static_cast<std::size_t>(i);
      if (index < run.first_piece) return run.streamed.send(run.buffers.parts.back());
      index -= run.first_piece;
      const LeasePool<WorkerScratch>::Lease scratch(run.scratch);
      run_piece(run.step, run.buffers.pieces[index], run.buffers, *scratch, run.buffers.parts[index]);
    });
  };
  beside(run_all, [&] {
    if (turn.owns_lock()) turn.unlock();
    streamed.wait(of_streamed);
  });
  return index_us;
}

}  // namespace tandem
