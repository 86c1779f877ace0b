#include "numa/pinning.h"

#include <atomic>
#include <cerrno>
#include <cstring>

#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem::numa {
namespace {

thread_local bool exempt = false;
std::atomic<bool> refused{false};

void note_refusal() noexcept {
  const int error = errno;
  if (!refused.exchange(true))
    log(LogLevel::warning, concat("the system refuses to pin worker threads: ", std::strerror(error)));
}

}  // namespace

Pinning::Exempt::Exempt() noexcept : before_(exempt) { exempt = true; }

Pinning::Exempt::~Exempt() { exempt = before_; }

Pinning::Pinning(tbb::task_arena& arena, const Topology& topology, const Node& node)
    : topology_(topology), observer_(arena, *this) {
  if (!topology.is_this_machine()) return;
  for (const int cpu : node.cpus) hwloc_bitmap_set(cpus_.get(), static_cast<unsigned>(cpu));
  slots_.resize(static_cast<std::size_t>(arena.max_concurrency()));
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].before = make_bitmap();
  }
  ready_.store(true, std::memory_order_release);
  arena.initialize();
  observer_.observe(true);
}

Pinning::~Pinning() {
  {
    // Once observation ends oneTBB reports no exits. Idle workers leave by themselves within about a millisecond.
    std::unique_lock lock(mutex_);
    closing_ = true;
    worker_left_.wait(lock, [this] { return num_pinned_ == 0; });
  }
  observer_.observe(false);
  // A worker that came after closing_ has used the mutex; oneTBB has waited for it, and this says so to race detectors.
  const std::lock_guard lock(mutex_);
}

Pinning::Slot* Pinning::slot_of_this_thread() noexcept {
  const int index = tbb::this_task_arena::current_thread_index();
  if (index < 0 || static_cast<std::size_t>(index) >= slots_.size()) return nullptr;
  return &slots_[static_cast<std::size_t>(index)];
}

void Pinning::enter(bool is_worker) noexcept {
  if (!ready_.load(std::memory_order_acquire)) return;
  if (!is_worker || exempt || refused.load(std::memory_order_relaxed)) return;
  Slot* slot = nullptr;
  {
    const std::lock_guard lock(mutex_);  // also hands over the slot from the worker that had it before
    slot = slot_of_this_thread();
    if (slot == nullptr || closing_) return;
    ++num_pinned_;
  }
  hwloc_topology_t hwloc = topology_.native();
  slot->pinned = hwloc_get_cpubind(hwloc, slot->before.get(), HWLOC_CPUBIND_THREAD) == 0 &&
                 hwloc_set_cpubind(hwloc, cpus_.get(), HWLOC_CPUBIND_THREAD) == 0;
  if (!slot->pinned) {
    note_refusal();
    count_down();
  }
}

void Pinning::leave(bool is_worker) noexcept {
  if (!is_worker || exempt) return;
  Slot* slot = nullptr;
  {
    const std::lock_guard lock(mutex_);
    slot = slot_of_this_thread();
    if (slot == nullptr || !slot->pinned) return;
  }
  if (hwloc_set_cpubind(topology_.native(), slot->before.get(), HWLOC_CPUBIND_THREAD) != 0) note_refusal();
  slot->pinned = false;
  count_down();
}

void Pinning::count_down() noexcept {
  const std::lock_guard lock(mutex_);
  --num_pinned_;
  worker_left_.notify_all();
}

}  // namespace tandem::numa
