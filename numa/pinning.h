#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#include "numa/hwloc_bitmap.h"
#include "numa/topology.h"

namespace tandem::numa {

/// Pins the workers of one arena to the CPUs of its node while they are in it.
///
/// Not one CPU each: the calling thread lends a hand wherever it happens to run, and the worker of that very CPU would
/// wait for it while another CPU idles.
///
/// A worker gets back the affinity it came with when it leaves. Threads that are not oneTBB's workers are left alone.
/// Best effort: a refusal is logged once for the process. Nothing is pinned on synthetic topologies.
class Pinning {
 public:
  Pinning(tbb::task_arena& arena, const Topology& topology, const Node& node);
  /// Waits until the workers have left the arena, so that none stays pinned. No work may be in it.
  ~Pinning();
  Pinning(const Pinning&) = delete;
  Pinning& operator=(const Pinning&) = delete;

  /// While it lives, the arenas that this thread enters do not pin it, even if it is a worker of another arena.
  class Exempt {
   public:
    Exempt() noexcept;
    ~Exempt();
    Exempt(const Exempt&) = delete;
    Exempt& operator=(const Exempt&) = delete;

   private:
    bool before_;
  };

 private:
  struct Slot {
    Bitmap before;  ///< the affinity that it came with
    bool pinned = false;
  };
  class Observer final : public tbb::task_scheduler_observer {
   public:
    Observer(tbb::task_arena& arena, Pinning& pinning) : task_scheduler_observer(arena), pinning_(pinning) {}
    void on_scheduler_entry(bool is_worker) override { pinning_.enter(is_worker); }
    void on_scheduler_exit(bool is_worker) override { pinning_.leave(is_worker); }

   private:
    Pinning& pinning_;
  };

  void enter(bool is_worker) noexcept;
  void leave(bool is_worker) noexcept;
  void count_down() noexcept;
  Slot* slot_of_this_thread() noexcept;

  const Topology topology_;
  std::atomic<bool> ready_{false};  ///< the slots are complete; says to race detectors what observe() orders
  std::mutex mutex_;
  std::condition_variable worker_left_;
  int num_pinned_ = 0;
  bool closing_ = false;
  Bitmap cpus_ = make_bitmap();  ///< of the node
  std::vector<Slot> slots_;
  Observer observer_;
};

}  // namespace tandem::numa
