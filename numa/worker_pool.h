#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "numa/topology.h"
#include "runtime/base/trace.h"

namespace tandem::numa {

/// One oneTBB arena per NUMA node whose worker threads are pinned to that node's cores.
///
/// The thread that calls run() lends a hand on the first node that has work (its own affinity is never touched) and
/// returns when everything is done. With one worker, or one task, everything runs inline on the calling thread.
class WorkerPool {
 public:
  /// `num_workers` 0 means one per usable core within the CPU quota; otherwise 1 to 1024 (more than there are cores
  /// oversubscribes). Workers are dealt to nodes in proportion to their cores; with fewer workers than nodes, the first
  /// nodes share them. Throws Error(invalid_argument) naming num_workers.
  WorkerPool(const Topology& topology, int num_workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Calls task(i) once for every i in [0, node_of.size()), on the workers of node node_of[i]; returns when all are
  /// done. Tasks may run in any order and in parallel, all with the caller's floating-point modes (rounding,
  /// denormals). The first exception is rethrown after all tasks have ended. Thread-safe: several threads may run() at
  /// once; tasks must not.
  void run(const std::vector<int>& node_of, const std::function<void(std::int64_t)>& task);

  /// Calls part(i) once for every i in [0, num_parts): from a task of run(), for work that is worth sharing with those
  /// workers of `node` that have nothing else to do. Returns when all are done; meanwhile this thread runs parts, and
  /// no other task. With one worker, or one part, everything runs inline, in order. Otherwise as run(); parts must call
  /// neither.
  void split(int node, std::int64_t num_parts, const std::function<void(std::int64_t)>& part);

  [[nodiscard]] int num_workers() const noexcept { return num_workers_; }
  [[nodiscard]] int num_nodes() const noexcept { return num_nodes_; }
  /// Workers of one node; 0 when another node's workers serve it.
  [[nodiscard]] int workers_on(int node) const noexcept;

 private:
  class Job;  // one call of run()
  struct NodeArena;
  int num_workers_ = 0;
  int num_nodes_ = 0;
  struct Limit;  // oneTBB's process-wide thread limit, raised while this pool lives
  std::unique_ptr<Limit> limit_;
  std::vector<std::unique_ptr<NodeArena>> arenas_;  // of the nodes that have workers: the first ones
};

/// What a thread's wall clock lacks of the worker time of what it split: the time of those who helped, less that in
/// which it waited for them. Thread-safe.
class HelpedTime {
 public:
  /// Negative where there was more waiting than help.
  [[nodiscard]] double us() const noexcept { return 1e-3 * static_cast<double>(ns_.load(std::memory_order_relaxed)); }
  void add(double us) noexcept { ns_.fetch_add(static_cast<std::int64_t>(1e3 * us), std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> ns_{0};  // of an integer: C++17 adds to no other
};

/// The workers of one node, for those who split their work and do not care which pool serves them.
class NodeWorkers {
 public:
  /// Splits nothing: everything runs inline.
  NodeWorkers() = default;
  /// `pool` must outlive this, and so must `helped`, where it is given: it costs two looks at the clock for each part.
  NodeWorkers(WorkerPool& pool, int node, HelpedTime* helped = nullptr) : pool_(&pool), node_(node), helped_(helped) {}

  /// As WorkerPool::split(); where the caller does all parts itself, an exception ends them.
  template <typename Part>
  void split(std::int64_t num_parts, const Part& part) const {
    if (pool_ == nullptr || num_parts <= 1 || pool_->num_workers() == 1) {
      for (std::int64_t i = 0; i < num_parts; ++i) part(i);
    } else if (helped_ != nullptr) {
      split_on_the_clock(num_parts, part);
    } else {  // a reference: a std::function of it allocates nothing
      pool_->split(node_, num_parts, [&part](std::int64_t i) { part(i); });
    }
  }

 private:
  template <typename Part>
  void split_on_the_clock(std::int64_t num_parts, const Part& part) const {
    const auto timed = [this, &part](std::int64_t i) {
      Stopwatch watch;
      part(i);
      helped_->add(watch.lap_us());
    };
    Stopwatch watch;
    pool_->split(node_, num_parts, [&timed](std::int64_t i) { timed(i); });
    helped_->add(-watch.lap_us());
  }

  WorkerPool* pool_ = nullptr;
  int node_ = 0;
  HelpedTime* helped_ = nullptr;
};

}  // namespace tandem::numa
