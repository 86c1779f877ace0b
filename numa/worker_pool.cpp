#include "numa/worker_pool.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <span>
#include <utility>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "numa/pinning.h"
#include "runtime/base/error.h"
#include "runtime/base/lease_pool.h"

namespace tandem::numa {
namespace {

constexpr int kMaxWorkers = 1024;

using Task = std::function<void(std::int64_t)>;
using Group = std::span<const std::int64_t>;

/// Workers of each node that has any: in proportion to cores (D'Hondt's method, at least one each).
std::vector<int> deal_workers(const std::vector<Node>& nodes, int num_workers) {
  const auto num_serving = std::min(nodes.size(), static_cast<std::size_t>(num_workers));
  std::vector<int> workers(num_serving, 1);
  for (int left = num_workers - static_cast<int>(num_serving); left > 0; --left) {
    std::size_t best = 0;
    for (std::size_t n = 1; n < num_serving; ++n) {
      // cores / (workers + 1) of node n is larger than that of the best so far
      if (nodes[n].num_cores * (workers[best] + 1) > nodes[best].num_cores * (workers[n] + 1)) best = n;
    }
    ++workers[best];
  }
  return workers;
}

int resolved_num_workers(const Topology& topology, int num_workers) {
  TANDEM_CHECK(num_workers >= 0 && num_workers <= kMaxWorkers, invalid_argument, "num_workers is ", num_workers,
               ", allowed are 0 (one per core) to ", kMaxWorkers);
  if (num_workers > 0) return num_workers;
  return std::clamp(std::min(topology.num_cores(), topology.cpu_quota()), 1, kMaxWorkers);
}

/// Calls every task in order on this thread; the first exception is rethrown at the end.
void run_inline(std::int64_t num_tasks, const Task& task) {
  std::exception_ptr first;
  for (std::int64_t i = 0; i < num_tasks; ++i) {
    try {
      task(i);
    } catch (...) {
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
}

/// Task indices sorted by the arena that serves them: those of arena n are [bounds[n], bounds[n + 1]).
class Groups {
 public:
  void assign(const std::vector<int>& node_of, std::size_t num_arenas) {
    indices_.resize(node_of.size());
    bounds_.assign(num_arenas + 2, 0);
    // Counting sort. While it runs, bounds are one place further to the right.
    for (const int node : node_of) ++bounds_[static_cast<std::size_t>(node) % num_arenas + 2];
    std::partial_sum(bounds_.begin(), bounds_.end(), bounds_.begin());
    for (std::size_t i = 0; i < node_of.size(); ++i) {
      std::size_t& next = bounds_[static_cast<std::size_t>(node_of[i]) % num_arenas + 1];
      indices_[next++] = static_cast<std::int64_t>(i);
    }
  }
  [[nodiscard]] Group of(std::size_t arena) const {
    return Group(indices_).subspan(bounds_[arena], bounds_[arena + 1] - bounds_[arena]);
  }

 private:
  std::vector<std::int64_t> indices_;
  std::vector<std::size_t> bounds_;
};

/// Lent to one run() at a time and kept, so that a steady step allocates nothing.
LeasePool<Groups>& groups_pool() {
  static LeasePool<Groups> pool;
  return pool;
}

}  // namespace

/// One call of run(): its tasks, which of its groups have ended, and the first exception. Lives on the caller's stack.
class WorkerPool::Job {
 public:
  explicit Job(const Task& task) : task_(task) { published_.store(true, std::memory_order_release); }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() { wait(); }  // the arenas hold pointers to this object, also when run() throws halfway

  /// Runs `group` in `arena`, with the calling thread lending a hand if there is a slot for it, and returns at the end.
  void run_in(tbb::task_arena& arena, Group group) { arena.execute(GroupTask{this, group.data(), group.size()}); }

  /// Runs the tasks [0, size) in `arena`, and nothing else in this thread until they have ended.
  void split_in(tbb::task_arena& arena, std::size_t size) { arena.execute(SplitTask{this, size}); }

  /// Runs `group` on the workers of `arena` and returns at once. `group` must stay until wait() returns.
  void start_in(tbb::task_arena& arena, Group group) {
    arena.enqueue(StartedGroupTask{{this, group.data(), group.size()}});
    ++num_groups_started_;
  }

  /// Blocks, outside all arenas, until every group that was started has ended.
  void wait() {
    std::unique_lock lock(mutex_);
    group_ended_.wait(lock, [this] { return num_groups_ended_ == num_groups_started_; });
    (void)num_ended_.load(std::memory_order_acquire);
  }

  void rethrow_first() {
    if (first_exception_) std::rethrow_exception(first_exception_);
  }

 private:
  // What oneTBB hands from thread to thread. They read nothing but their own members: see acquire().
  struct RangeTask {
    Job* job;
    const std::int64_t* indices;  // nullptr: task i is number i
    void operator()(const tbb::blocked_range<std::size_t>& range) const {
      job->call_all(indices, range.begin(), range.end());
    }
  };
  struct GroupTask {
    Job* job;
    const std::int64_t* indices;
    std::size_t size;
    void operator()() const { job->run_here(indices, size); }
  };
  struct StartedGroupTask : GroupTask {
    void operator()() const { job->run_started(indices, size); }
  };
  struct SplitTask {
    Job* job;
    std::size_t size;
    // Isolated: a thread that waits for the parts of one task must not begin another task on top of it.
    void operator()() const { tbb::this_task_arena::isolate(GroupTask{job, nullptr, size}); }
  };

  /// Sees what the caller wrote. oneTBB orders that already; this says so where race detectors, which cannot look into
  /// its library, see it. num_ended_ does the same for what a task wrote and the caller reads. Two atomics and not one,
  /// which would order the tasks among themselves and hide their races.
  void acquire() const noexcept { (void)published_.load(std::memory_order_acquire); }

  void call_all(const std::int64_t* indices, std::size_t begin, std::size_t end) noexcept {
    acquire();
    for (std::size_t i = begin; i < end; ++i) {
      try {
        task_(indices == nullptr ? static_cast<std::int64_t>(i) : indices[i]);
      } catch (...) {
        keep_exception();
      }
      num_ended_.fetch_add(1, std::memory_order_release);
    }
  }

  void run_here(const std::int64_t* indices, std::size_t size) {
    acquire();
    tbb::parallel_for(tbb::blocked_range<std::size_t>(0, size, 1), RangeTask{this, indices}, tbb::simple_partitioner(),
                      context_);
  }

  void run_started(const std::int64_t* indices, std::size_t size) noexcept {
    try {
      run_here(indices, size);
    } catch (...) {  // oneTBB itself, out of memory: an exception that leaves an enqueued task ends the process
      keep_exception();
    }
    const std::lock_guard lock(mutex_);
    ++num_groups_ended_;
    group_ended_.notify_one();  // under the lock: the waiting caller may destroy this object once it is released
  }

  void keep_exception() noexcept {
    const std::lock_guard lock(mutex_);
    if (!first_exception_) first_exception_ = std::current_exception();
  }

  const Task& task_;
  // Isolated: when the caller is a task of a oneTBB group that gets cancelled, ours still run. The trait gives every
  // worker the rounding and denormal modes of the calling thread, so results do not depend on who runs a task.
  tbb::task_group_context context_{tbb::task_group_context::isolated,
                                   tbb::task_group_context::fp_settings | tbb::task_group_context::concurrent_wait};
  std::atomic<bool> published_{false};
  std::atomic<std::int64_t> num_ended_{0};
  int num_groups_started_ = 0;  // only the caller's
  std::mutex mutex_;
  std::condition_variable group_ended_;
  int num_groups_ended_ = 0;
  std::exception_ptr first_exception_;
};

// oneTBB takes the least of all limits in force, so the pools of the process share one: the sum of what they need, and
// as many threads as there would be without them for everybody else.
struct WorkerPool::Limit {
  explicit Limit(int num_workers) : num_workers_(num_workers) { change(num_workers); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;
  ~Limit() { change(-num_workers_); }

 private:
  static void change(int difference) {
    static std::mutex mutex;
    static int total = 0;
    static std::unique_ptr<tbb::global_control> control;
    const std::lock_guard lock(mutex);
    total += difference;
    std::unique_ptr<tbb::global_control> next;
    if (total > 0) {
      const auto threads = static_cast<std::size_t>(total) + static_cast<std::size_t>(tbb::info::default_concurrency());
      next = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism, threads);
    }
    control = std::move(next);
  }

  int num_workers_;
};

struct WorkerPool::NodeArena {
  NodeArena(const Topology& topology, const Node& node, int num_slots)
      : num_workers(num_slots), arena(num_slots, /*reserved_for_masters=*/0), pinning(arena, topology, node) {}

  int num_workers;
  tbb::task_arena arena;  // no slot is kept for callers: they take a free one, or wait while workers do the work
  Pinning pinning;
};

WorkerPool::WorkerPool(const Topology& topology, int num_workers)
    : num_workers_(resolved_num_workers(topology, num_workers)),
      num_nodes_(topology.num_nodes()),
      limit_(std::make_unique<Limit>(num_workers_)) {
  const auto workers = deal_workers(topology.nodes(), num_workers_);
  for (std::size_t n = 0; n < workers.size(); ++n)
    arenas_.push_back(std::make_unique<NodeArena>(topology, topology.nodes()[n], workers[n]));
}

WorkerPool::~WorkerPool() = default;

int WorkerPool::workers_on(int node) const noexcept {
  assert(node >= 0 && node < num_nodes_);
  const auto index = static_cast<std::size_t>(node);
  return index < arenas_.size() ? arenas_[index]->num_workers : 0;
}

void WorkerPool::run(const std::vector<int>& node_of, const Task& task) {
  assert(std::all_of(node_of.begin(), node_of.end(), [&](int node) { return node >= 0 && node < num_nodes_; }));
  if (num_workers_ == 1 || node_of.size() <= 1) {
    run_inline(static_cast<std::int64_t>(node_of.size()), task);
    return;
  }
  const LeasePool<Groups>::Lease lease(groups_pool());
  Groups& groups = *lease;
  groups.assign(node_of, arenas_.size());
  Job job(task);
  std::size_t first = 0;
  while (groups.of(first).empty()) ++first;
  for (std::size_t n = first + 1; n < arenas_.size(); ++n) {
    if (!groups.of(n).empty()) job.start_in(arenas_[n]->arena, groups.of(n));
  }
  {
    const Pinning::Exempt exempt;
    job.run_in(arenas_[first]->arena, groups.of(first));
  }
  job.wait();
  job.rethrow_first();
}

void WorkerPool::split(int node, std::int64_t num_parts, const Task& part) {
  assert(node >= 0 && node < num_nodes_);
  if (num_workers_ == 1 || num_parts <= 1) {
    run_inline(num_parts, part);
    return;
  }
  Job job(part);
  {
    const Pinning::Exempt exempt;
    job.split_in(arenas_[static_cast<std::size_t>(node) % arenas_.size()]->arena, static_cast<std::size_t>(num_parts));
  }
  job.rethrow_first();
}

}  // namespace tandem::numa
