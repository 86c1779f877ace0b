// Stage 8' of a step: rows that reached the host tier since the last one are indexed, for the heads that select.
#include <new>
#include <utility>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/runtime.h"

namespace tandem {
namespace {

/// The heads of selecting tasks whose index lacks rows, with their nodes.
void find_unindexed(StepBuffers& buffers) {
  buffers.unindexed.clear();
  buffers.nodes.clear();
  const LayerState* done = nullptr;
  for (const Task& task : buffers.tasks) {  // those of a sequence are consecutive, and so are those of its heads
    if (task.exact || task.layer == done) continue;
    HeadState& head = task.head_state();
    if (task.head + 1 == static_cast<std::int64_t>(task.layer->heads.size())) done = task.layer;
    if (!head.index.lacks_rows_of(head.store, head.queries)) continue;
    buffers.unindexed.push_back({&task, {}, 0});
    buffers.nodes.push_back(task.head_state().window.node());
  }
}

/// Buffers outlive the call, also one that is refused memory; they must not keep pages alive.
struct Forget {
  std::vector<UnindexedHead>& heads;
  ~Forget() { heads.clear(); }
};

}  // namespace

double Runtime::extend_indexes(const StepContext& step, StepBuffers& buffers) {
  find_unindexed(buffers);
  const Forget forget{buffers.unindexed};
  if (buffers.unindexed.empty()) return 0.0;
  workers_.run(buffers.nodes, [&](std::int64_t i) {
    const LeasePool<WorkerScratch>::Lease scratch(scratch_);
    UnindexedHead& work = buffers.unindexed[static_cast<std::size_t>(i)];
    const TimelineSpan span(timeline_, "index", subject_of(step, *work.task));
    Stopwatch watch;
    const HeadState& head = work.task->head_state();
    work.extension = head.index.prepare(kernels_, head.store, head.queries, scratch->select);
    work.us = watch.lap_us();
  });
  double us = 0;
  for (UnindexedHead& work : buffers.unindexed) {  // all heads or none: whatever can be refused has been by now
    HeadState& head = work.task->head_state();
    head.index.commit(std::move(work.extension));
    head.index_us += work.us;
    us += work.us;
  }
  return us;
}

double Runtime::extend_probed_indexes(const StepContext& step, StepBuffers& buffers) {
  try {
    return extend_indexes(step, buffers);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory || !give_up_probes(step.request, buffers.tasks)) throw;
  } catch (const std::bad_alloc&) {
    if (!give_up_probes(step.request, buffers.tasks)) throw;
  }
  split_.refuse_probe();
  return extend_indexes(step, buffers);
}

}  // namespace tandem
