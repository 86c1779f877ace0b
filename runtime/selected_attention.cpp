#include "runtime/selected_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/gathered_attention.h"
#include "runtime/step_errors.h"

namespace tandem {
namespace {

/// One query token of one head, and where its results go.
struct HostQuery {
  const StepContext& step;
  const Task& task;
  const HeadState& head;
  std::int64_t first_position;  // of row 0
  cpu::QueryBlock query;
  const cpu::LogitRule& logits;
  VisibleRows visible;
  PartialAttention result;   // (group_size, dim_v)
  cpu::SampleSpread spread;  // likewise
  numa::NodeWorkers workers;
};

/// Takes note where rows have been written since they were indexed.
void compare_fingerprints(const HostQuery& q, const cpu::Selection& selection) {
  BorrowedHead& borrowed = *q.head.borrowed;
  if (borrowed.probes < 0) return;
  const auto key = static_cast<std::uint64_t>(*q.query.positions);
  if (borrowed.fingerprints.match(q.head.store, selection, q.visible.begin, q.visible.end, borrowed.probes, key))
    return;
  borrowed.stale.store(true, std::memory_order_relaxed);
}

/// Selects `budget` rows (0: what the policy says) and attends to them.
void select_and_attend(const HostQuery& q, std::int64_t budget, WorkerScratch& scratch, StepStats& stats) {
  Stopwatch watch;
  cpu::Selection& selection = scratch.selection;
  const StepContext& step = q.step;
  SpanSubject about = subject_of(step, q.task);
  about.position = *q.query.positions;
  {
    TimelineSpan span(step.timeline, "select", about);
    q.head.index.select({step.kernels, q.head.store, q.query, q.logits, q.first_position, q.visible.begin,
                         q.visible.end, budget, q.workers},
                        scratch.select, selection);
    cpu::leave_out(q.head.window.kept_rows(), selection);
    if (q.head.borrowed) compare_fingerprints(q, selection);
    span.subject.rows = q.visible.count();
    span.subject.bytes = selection.bytes_read;
  }
  stats.trace[Stage::select].us += watch.lap_us();
  stats.trace[Stage::select].bytes += selection.bytes_read;
  about.rows = static_cast<std::int64_t>(selection.rows.size() + selection.sampled.rows.size());
  about.bytes = about.rows * q.head.store.layout().kv_bytes;
  const TimelineSpan span(step.timeline, "attend", about);
  gathered_attention(
      {step.kernels, q.head.store, q.first_position, q.query, q.logits, q.workers, step.attention_scratch}, selection,
      scratch.gathered, q.result, q.spread);
  stats.trace[Stage::attend].bytes += about.bytes;
  stats.trace[Stage::attend].us += watch.lap_us();
}

/// What a wanted error leaves for sampling, beside the typical error of the rows' format, which is smaller.
double left_for_sampling(double wanted, DType host_dtype) noexcept {
  const double taken = cpu::typical_error(host_dtype);
  return std::sqrt(std::max(0.0, wanted * wanted - taken * taken));
}

/// The largest estimated relative error over the group, once the window's partial has been merged in.
double largest_error(const HostQuery& q, ConstPartialAttention window, WorkerScratch& scratch) {
  double largest = 0;
  const std::int64_t dim = q.result.dim;
  scratch.merged_row.resize(static_cast<std::size_t>(dim));
  for (std::int64_t h = 0; h < q.result.rows; ++h) {
    if (std::isinf(q.result.lse[h])) continue;
    std::copy_n(window.out + h * dim, dim, scratch.merged_row.begin());
    float lse = window.lse[h];
    const PartialAttention merged{scratch.merged_row.data(), &lse, 1, dim};
    merge_state(merged, {q.result.out + h * dim, q.result.lse + h, 1, dim});
    const cpu::SampleSpread spread{q.spread.weight + h, q.spread.value + h * dim, q.spread.square + h};
    const ConstPartialAttention host{q.result.out + h * dim, q.result.lse + h, 1, dim};
    largest = std::max(largest, estimated_error(spread, host, as_const(merged), 0).out);
  }
  return largest;
}

}  // namespace

void attend_selected(const StepContext& step, Task& task, const cpu::QueryBlock& queries, const cpu::LogitRule& logits,
                     TaskMemory& memory, WorkerScratch& scratch, StepStats& stats) {
  const HeadState& head = task.head_state();
  const std::int64_t group = queries.group_size;
  const std::int64_t dim = step.config.shape.head_dim_v;
  numa::HelpedTime helped;
  const double wanted = left_for_sampling(task.selector->wanted_error(), step.config.host_dtype);
  for (int i = 0; i < queries.num_queries; ++i) {
    const std::int64_t v = i * group;
    const HostQuery query{
        step,
        task,
        head,
        task.layer->first_host_position(),
        {queries.q + v * head.store.layout().padded_k, queries.positions + i, 1, queries.group_size},
        logits,
        visible_rows(task, logits, queries.positions[i]),
        {memory.host_out.data() + v * dim, memory.host_lse.data() + v, group, dim},
        {memory.spread_weight.data() + v, memory.spread_value.data() + v * dim, memory.spread_square.data() + v},
        {step.workers, head.window.node(), task.is_measured ? &helped : nullptr}};
    select_and_attend(query, 0, scratch, stats);
    if (wanted > 0 && !scratch.selection.sampled.rows.empty()) {
      if (step.window != nullptr) step.window->wait();
      const ConstPartialAttention window{memory.out.data() + v * dim, memory.lse.data() + v, group, dim};
      const double error = largest_error(query, window, scratch);
      if (error > wanted) {
        select_and_attend(query, lsh::rows_for_error(query.visible.count(), error / wanted), scratch, stats);
      }
    }
    const cpu::Selection& selection = scratch.selection;
    const auto gathered = static_cast<std::int64_t>(selection.rows.size() + selection.sampled.rows.size());
    stats.rows_host += query.visible.count() - kept_between(head.window, query.visible);
    stats.rows_gathered += gathered;
    if (selection.head_mask.empty()) stats.keys_attended += gathered * group;
    for (const std::uint64_t mask : selection.head_mask) stats.keys_attended += std::popcount(mask);
    memory.certified[static_cast<std::size_t>(i)] = selection.certified ? 1 : 0;
  }
  task.helped_us = helped.us();
}

}  // namespace tandem
