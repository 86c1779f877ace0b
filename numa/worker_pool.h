#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "numa/topology.h"

namespace tandem::numa {

/// One oneTBB arena per NUMA node whose worker threads are pinned to that node's cores, one each.
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

}  // namespace tandem::numa
