// Attention over borrowed rows: what each query sees, who selects, and the two kinds of tasks at once.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "lsh/selection_cost.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"
#include "runtime/observe_queries.h"
#include "runtime/request_check.h"
#include "runtime/row_overlap.h"
#include "runtime/runtime.h"
#include "runtime/step_context.h"
#include "runtime/task_run.h"

namespace tandem {
namespace {

/// Rows that are written while a call runs could go on for ever; from then on nothing is selected.
constexpr int kAttempts = 3;
/// Rows of exact queries whose partials are kept at a time: many queries take turns, a long one is never cut in two.
constexpr std::int64_t kMostListedRows = std::int64_t{1} << 18;

void check(const AttendRowsRequest& request, const AttentionShape& shape) {
  const std::int64_t queries = request.visible.num_queries;
  TANDEM_CHECK(!request.q.on_device && !request.out.on_device, unsupported,
               "q and out of td_attend_rows must be in host memory, where the rows are");
  check_finite_tensor(request.q, {"q", queries, shape.num_q_heads, shape.head_dim_k});
  const MutableTensorView& out = request.out;
  check_tensor({out.data, out.dtype, out.tokens, out.heads, out.dim, out.token_stride, out.head_stride, out.on_device},
               {"out", queries, shape.num_q_heads, shape.head_dim_v});
  for (std::int32_t h = 0; h < shape.num_q_heads; ++h) {
    TANDEM_CHECK(request.sink_logits == nullptr || request.sink_logits[h] < std::numeric_limits<float>::infinity(),
                 invalid_argument, "sinks[", h, "] is ", request.sink_logits[h],
                 "; it must be finite, or -inf for none");
    TANDEM_CHECK(request.bias_factors == nullptr || std::abs(request.bias_factors[h]) <= kMaxMagnitude,
                 invalid_argument, "alibi[", h, "] is ", request.bias_factors[h], "; allowed: magnitudes up to ",
                 kMaxMagnitude);
  }
}

/// Of q, of what belongs to query heads, and of the pool: its rows are the engine's.
void check_inputs_kept(const AttendRowsRequest& request, const RowTensors& rows, const AttentionShape& shape) {
  check_apart("out", request.out, "q", request.q);
  check_apart("out", request.out, "k of the pool", rows.k);
  check_apart("out", request.out, "v of the pool", rows.v);
  if (request.sink_logits != nullptr)
    check_apart("out", request.out, "sinks", dense_view(request.sink_logits, DType::f32, 1, 1, shape.num_q_heads));
  if (request.bias_factors != nullptr)
    check_apart("out", request.out, "alibi", dense_view(request.bias_factors, DType::f32, 1, 1, shape.num_q_heads));
}

/// Rows that queries see must be finite. A dense step reads all of them, which looking at each value would double, and
/// a value that is not finite shows in the result.
void check_results(const AttendRowsRequest& request) {
  const MutableTensorView& out = request.out;
  for (std::int64_t query = 0; query < out.tokens; ++query) {
    for (std::int64_t head = 0; head < out.heads; ++head) {
      TANDEM_CHECK(all_finite(out.dtype, out.row(query, head), out.dim), invalid_argument, "out of query ", query,
                   ", head ", head,
                   " holds NaN or infinity: a row that the query sees does, or out's dtype is too small");
    }
  }
}

/// What tasks that select are told of the request.
AttendRequest step_request_of(const AttendRowsRequest& request, std::int32_t layer) {
  AttendRequest step;
  step.layer = layer;
  step.q = request.q;
  step.out = request.out;
  step.lse = request.lse;
  step.error = request.error;
  step.certified = request.certified;
  step.sink_logits = request.sink_logits;
  return step;
}

/// The queries that select, if the pool has memory for their lists: those that see more first.
class SelectingQueries {
 public:
  SelectingQueries(const AttendRowsRequest& request, const lsh::Selector& selector, const RowPool& pool,
                   const Config& config)
      : none_(request.exact || selector.selects_all()),
        all_(!config.never_slower),
        fewest_(std::max<std::int64_t>(RowPool::kFewestRows, config.window.sink_tokens + 1)),
        cost_(config.profile, selector.params(), pool.rows().layout, config.shape.group_size()) {}

  [[nodiscard]] bool has(const VisibleRowList& visible) const noexcept {
    const std::int64_t count = visible.rows.count();
    return !none_ && visible.bias.mask == nullptr && count >= fewest_ && (all_ || cost_.pays(count));
  }

 private:
  bool none_, all_;
  std::int64_t fewest_;
  lsh::SelectionCost cost_;
};

std::int64_t position_of(const ListQuery& query, const RowsBuffers& rows) {
  return rows.visible[static_cast<std::size_t>(query.query)].rows.count() - 1;
}

/// Runs what needs memory for an index. Where that is refused the pool forgets all that it knows: false.
template <typename Work>
bool unless_refused(RowPool& pool, const Work& work) {
  try {
    work();
    return true;
  } catch (const std::bad_alloc&) {
    log(LogLevel::warning, concat("pool ", pool.id(), ": the system refused memory for an index"));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    log(LogLevel::warning, concat("pool ", pool.id(), " has no memory for an index: ", error.what()));
  }
  pool.forget_all();
  return false;
}

}  // namespace

double Runtime::plan_lists(RowPool& pool, const StepContext& step, const AttendRowsRequest& request,
                           StepBuffers& buffers, RowsBuffers& rows) {
  const AttentionShape& shape = config_.shape;
  const SelectingQueries selecting(request, *selector_, pool, rows_config_);
  for (std::int64_t q = 0; q < request.visible.num_queries; ++q) {
    if (selecting.has(rows.visible[static_cast<std::size_t>(q)])) rows.selecting.push_back({q, nullptr});
  }
  std::stable_sort(rows.selecting.begin(), rows.selecting.end(),
                   [&](const ListQuery& a, const ListQuery& b) { return position_of(a, rows) > position_of(b, rows); });
  pool.begin_call();
  for (ListQuery& query : rows.selecting)
    query.list = pool.list_of(rows.visible[static_cast<std::size_t>(query.query)].rows);
  std::erase_if(rows.selecting, [](const ListQuery& query) { return query.list == nullptr; });
  // List by list, and in each by position, which is how queries are logged and indexes extended.
  std::stable_sort(rows.selecting.begin(), rows.selecting.end(), [&](const ListQuery& a, const ListQuery& b) {
    if (a.list == b.list) return position_of(a, rows) < position_of(b, rows);
    return a.list->id() < b.list->id();
  });
  for (const ListQuery& query : rows.selecting) {
    const std::int64_t position = position_of(query, rows);
    observe_queries(request.q, query.query, 1, shape, query.list->layer(), position + 1, buffers);
    for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
      buffers.tasks.push_back(
          {&query.list->layer(), selector_.get(), query.list->id(), head, query.query, position, 1});
    }
  }
  return extend_indexes(step, buffers);
}

void Runtime::run_rows(const RowPool& pool, const StepContext& step, const AttendRowsRequest& request,
                       StepBuffers& buffers, RowsBuffers& rows) {
  struct Run {
    const StepContext& step;
    LeasePool<WorkerScratch>& scratch;
    StepBuffers& buffers;
    RowsBuffers& rows;
    const RowTensors& tensors;
    const float* bias_factors;
  } run{step, scratch_, buffers, rows, pool.rows(), request.bias_factors};
  buffers.nodes.clear();
  for (const Piece& piece : buffers.pieces)
    buffers.nodes.push_back(buffers.tasks[static_cast<std::size_t>(piece.task)].head_state().window.node());
  for (std::int64_t i = 0; i < rows.exact.num_pieces(); ++i)
    buffers.nodes.push_back(static_cast<int>(i % topology_.num_nodes()));  // who knows where an engine's rows lie
  workers_.run(buffers.nodes, [&run](std::int64_t i) {
    const LeasePool<WorkerScratch>::Lease scratch(run.scratch);
    const auto selecting_pieces = static_cast<std::int64_t>(run.buffers.pieces.size());
    if (i < selecting_pieces) {
      const auto index = static_cast<std::size_t>(i);
      run_piece(run.step, run.buffers.pieces[index], run.buffers, *scratch, run.buffers.parts[index]);
    } else {
      run.rows.exact.run(run.step, run.tensors, run.bias_factors, i - selecting_pieces, *scratch);
    }
  });
}

bool Runtime::attend_lists(RowPool& pool, const StepContext& step, const AttendRowsRequest& request, bool may_select,
                           StepBuffers& buffers, RowsBuffers& rows, StepStats& total) {
  const AttentionShape& shape = config_.shape;
  rows.selecting.clear();
  buffers.tasks.clear();
  if (may_select &&
      !unless_refused(pool, [&] { total.trace[Stage::index].us += plan_lists(pool, step, request, buffers, rows); })) {
    buffers.tasks.clear();
  }
  // Whatever cannot select attends to every row.
  std::vector<std::uint8_t>& selects = rows.selects;
  selects.assign(static_cast<std::size_t>(request.visible.num_queries * shape.num_kv_heads), 0);
  std::erase_if(buffers.tasks, [&](const Task& task) {
    const bool can = task.head_state().index.can_select(selector_->wanted_error());
    if (can) selects[static_cast<std::size_t>(task.first_row * shape.num_kv_heads + task.head)] = 1;
    return !can;
  });
  plan_pieces(shape, workers_.num_workers(), buffers);
  StepStats done;
  bool first = true;
  for (std::int64_t q = 0; first || q < request.visible.num_queries;) {
    rows.exact.clear();
    for (; q < request.visible.num_queries && rows.exact.num_rows() < kMostListedRows; ++q) {
      for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
        if (selects[static_cast<std::size_t>(q * shape.num_kv_heads + head)] == 0)
          rows.exact.add(q, head, rows.visible[static_cast<std::size_t>(q)]);
      }
    }
    rows.exact.plan(shape);
    run_rows(pool, step, request, buffers, rows);
    rows.exact.add_stats(done);
    if (first) done += summed_up(buffers);
    buffers.pieces.clear();  // they have run
    first = false;
  }
  if (pool.forget_found()) return false;
  total += done;
  return true;
}

StepStats Runtime::attend_rows(const AttendRowsRequest& request) {
  check_open();
  const std::int64_t call = ++calls_;
  TimelineSpan span(timeline_, "td_attend_rows", {.call = call});
  Stopwatch watch;
  check(request, config_.shape);
  const std::shared_ptr<RowPool> pool = find_pool(request.pool);
  const RowPoolLock lock(*pool);
  check_inputs_kept(request, pool->rows(), config_.shape);
  span.subject.layer = pool->layer();
  const LeasePool<StepBuffers>::Lease buffers(step_buffers_);
  const LeasePool<RowsBuffers>::Lease rows(rows_buffers_);
  list_visible(request.visible, pool->rows().num_rows(), rows->visible);
  const AttendRequest given = step_request_of(request, pool->layer());
  const StepContext step{
      given, rows_config_, kernels_, *device_, workers_, attention_scratch_, buffers->mass, timeline_, call,
  };
  StepStats total;
  for (int attempt = 1; !attend_lists(*pool, step, request, attempt < kAttempts, *buffers, *rows, total);) ++attempt;
  try {
    check_results(request);
  } catch (const Error&) {
    pool->forget_all();  // one such row spoils what an index knows of all
    throw;
  }
  average_errors(total, request.q.tokens * config_.shape.num_q_heads);
  total.total_us = watch.lap_us();
  span.subject.rows = total.rows_window + total.rows_gathered;
  span.subject.bytes = total.trace.bytes();
  return total;
}

}  // namespace tandem
