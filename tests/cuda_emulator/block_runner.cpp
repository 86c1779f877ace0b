#include "block_runner.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <thread>
#include <utility>

#include "machine.h"

namespace emulator {
namespace {

constexpr std::size_t kMaxStaticBytes = 48 << 10;
constexpr std::size_t kMaxSharedBytes = 227 << 10;

std::string at(std::source_location where) {
  return std::string(" at ") + where.file_name() + ":" + std::to_string(where.line());
}

const char* name(Collective kind) {
  switch (kind) {
    case Collective::shuffle:
      return "a shuffle";
    case Collective::ballot:
      return "a vote";
    default:
      return "__syncwarp";
  }
}

std::string triple(const uint3& index) {
  return std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z);
}

/// First set bit of `mask` that comes after `lane` (forward) or before it, going round.
unsigned neighbour(unsigned mask, unsigned lane, Order order) {
  if (order == Order::reverse) {
    const unsigned before = std::rotr(mask, static_cast<int>(lane));
    return (lane + 31u - static_cast<unsigned>(std::countl_zero(before))) % kWarpLanes;
  }
  const unsigned after = std::rotr(mask, static_cast<int>(lane + 1) % kWarpLanes);
  return (lane + 1u + static_cast<unsigned>(std::countr_zero(after))) % kWarpLanes;
}

}  // namespace

BlockRunner::BlockRunner() : fibers_([this](int thread) { return run_thread(thread); }) {}

void BlockRunner::run(std::size_t dynamic_bytes, const std::function<void()>& body) {
  body_ = &body;
  start(dynamic_bytes);
  fibers_.switch_to(running_ = next_thread(false));
  running_ = Fibers::kThread;
  current_lane = -1;
  threadIdx = {};
  fibers_.count_switches();
  finish();
}

void BlockRunner::start(std::size_t dynamic_bytes) {
  const auto count = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  fibers_.grow(count);
  threads_.resize(static_cast<std::size_t>(count));
  warps_.resize(static_cast<std::size_t>((count + kWarpLanes - 1) / kWarpLanes));
  for (int i = 0; i < count; ++i) {
    const auto index = static_cast<unsigned>(i);
    threads_[index] = {index % blockDim.x, index / blockDim.x % blockDim.y, index / blockDim.x / blockDim.y};
  }
  for (std::size_t i = 0; i < warps_.size(); ++i) {
    const unsigned lanes =
        std::min<unsigned>(kWarpLanes, static_cast<unsigned>(count) - static_cast<unsigned>(i) * kWarpLanes);
    warps_[i].alive = warps_[i].ready = 0xffffffffu >> (kWarpLanes - lanes);
    warps_[i].last = rules_.order == Order::reverse ? 0 : kWarpLanes - 1;
    warps_[i].waiting.clear();
  }
  shared_.clear();
  dynamic_.emplace(dynamic_bytes);
  alive_ = count;
  at_barrier_ = 0;
  pauses_ = 0;
  unwinding_ = false;
  fault_.reset();
  started_ = std::chrono::steady_clock::now();
  running_ = Fibers::kThread;
}

void BlockRunner::finish() {
  const bool intact =
      dynamic_->intact() && std::all_of(shared_.begin(), shared_.end(),
                                        [](const SharedVariable& variable) { return variable.memory.intact(); });
  if (!intact && !unwinding_) fault_.emplace("a write beside shared memory in block " + triple(blockIdx));
  if (fault_) throw Fault(*fault_);
  if (unwinding_) throw DeviceFailure{sticky_error(rules_.device)};
}

/// One CUDA thread from its start to its exit; returns the fiber that goes on.
int BlockRunner::run_thread(int thread) {
  if (!unwinding_) {
    try {
      enter(thread);
      (*body_)();
    } catch (const Unwind&) {
    }
  }
  exit_thread(thread);
  return running_ = alive_ == 0 ? Fibers::kThread : next_thread(false);
}

void BlockRunner::exit_thread(int thread) {
  --alive_;
  Warp& warp = warp_of(thread);
  const unsigned bit = 1u << thread % kWarpLanes;
  warp.alive &= ~bit;
  warp.ready &= ~bit;
  if (unwinding_) return;
  if (at_barrier_ > 0) {
    give_up("a thread exited while others wait at __syncthreads" + at(barrier_) + coordinates());
    return;
  }
  for (const Rendezvous& rendezvous : warp.waiting) {
    if ((rendezvous.mask & bit) != 0) {
      give_up(std::string("a lane exited while others wait for it at ") + name(rendezvous.kind) + at(rendezvous.where) +
              coordinates());
      return;
    }
  }
}

/// What the thread sees of itself.
void BlockRunner::enter(int thread) {
  threadIdx = threads_[static_cast<std::size_t>(thread)];
  current_lane = thread % kWarpLanes;
}

/// Runs other threads until the running one is ready again.
void BlockRunner::hand_over(bool leave_warp) {
  const int self = running_;
  const int next = next_thread(leave_warp);
  if (next != self) {
    running_ = next;
    fibers_.switch_to(next);
    running_ = self;
  }
  enter(self);
  if (unwinding_) throw Unwind{};
}

/// A thread that can run, of the running thread's warp if there is one and `leave_warp` does not say otherwise. Where
/// none can, the block is stuck: then all of them unwind.
int BlockRunner::next_thread(bool leave_warp) {
  const auto count = static_cast<int>(warps_.size());
  const int step = rules_.order == Order::reverse ? count - 1 : 1;
  int warp = rules_.order == Order::reverse ? count - 1 : 0;
  if (running_ != Fibers::kThread) warp = (running_ / kWarpLanes + (leave_warp ? step : 0)) % count;
  if (rules_.order == Order::random) {
    warp = static_cast<int>(rules_.random->below(static_cast<std::uint64_t>(count)));
    warps_[static_cast<std::size_t>(warp)].last = static_cast<unsigned>(rules_.random->below(kWarpLanes));
  }
  for (int tried = 0; tried < count; ++tried, warp = (warp + step) % count) {
    Warp& chosen = warps_[static_cast<std::size_t>(warp)];
    if (chosen.ready == 0) continue;
    chosen.last = neighbour(chosen.ready, chosen.last, rules_.order);
    return warp * kWarpLanes + static_cast<int>(chosen.last);
  }
  report_deadlock();
  return next_thread(false);
}

void BlockRunner::report_deadlock() {
  std::string what = "deadlock in block " + triple(blockIdx) + ":";
  if (at_barrier_ > 0)
    what += " " + std::to_string(at_barrier_) + " threads wait at __syncthreads" + at(barrier_) + ";";
  for (std::size_t i = 0; i < warps_.size(); ++i) {
    for (const Rendezvous& rendezvous : warps_[i].waiting) {
      what += " warp " + std::to_string(i) + ": " + std::to_string(std::popcount(rendezvous.arrived)) + " of " +
              std::to_string(std::popcount(rendezvous.mask)) + " lanes wait at " + name(rendezvous.kind) +
              at(rendezvous.where) + ";";
    }
  }
  give_up(what);
}

void BlockRunner::give_up(const std::string& what) {
  if (!unwinding_) fault_.emplace(what);
  unwind();
}

void BlockRunner::unwind() {
  unwinding_ = true;
  for (Warp& warp : warps_) warp.ready = warp.alive;
}

void BlockRunner::fail(const std::string& what, std::source_location where) {
  give_up(what + at(where) + coordinates());
  throw Unwind{};
}

std::string BlockRunner::coordinates() const {
  return " [block " + triple(blockIdx) + " thread " + triple(threadIdx) + "]";
}

std::uint64_t BlockRunner::warp_collective(Collective kind, unsigned mask, std::uint64_t bits, unsigned source,
                                           std::source_location where) {
  Warp& warp = warp_of(running_);
  const auto lane = static_cast<unsigned>(running_ % kWarpLanes);
  if ((mask >> lane & 1u) == 0) fail("the mask does not name the calling lane", where);
  if ((mask & ~warp.alive) != 0) fail("the mask names lanes that have exited or do not exist", where);
  if (kind == Collective::shuffle && (mask >> source & 1u) == 0) fail("a shuffle reads a lane outside the mask", where);
  warp.brought[lane] = bits;
  warp.source[lane] = source;
  join(warp, lane, {kind, mask, 0, where});
  return warp.result[lane];
}

void BlockRunner::join(Warp& warp, unsigned lane, const Rendezvous& wanted) {
  auto found = warp.waiting.end();
  for (auto it = warp.waiting.begin(); it != warp.waiting.end(); ++it) {
    if (it->mask == wanted.mask) {
      found = it;
    } else if ((it->mask >> lane & 1u) != 0 && (it->arrived & wanted.mask) != 0) {
      fail("lanes of one warp disagree on the mask: others wait at " + std::string(name(it->kind)) +
               emulator::at(it->where),
           wanted.where);
    }
  }
  if (found == warp.waiting.end()) found = warp.waiting.insert(found, wanted);
  if (found->kind != wanted.kind) {
    fail("lanes of one warp wait at different collectives: others at " + std::string(name(found->kind)) +
             emulator::at(found->where),
         wanted.where);
  }
  found->arrived |= 1u << lane;
  if (found->arrived == found->mask) {
    complete(warp, *found);
    warp.waiting.erase(found);
  } else {
    warp.ready &= ~(1u << lane);
    hand_over(false);
  }
}

void BlockRunner::complete(Warp& warp, const Rendezvous& rendezvous) {
  std::uint64_t votes = 0;
  for (unsigned left = rendezvous.mask; left != 0; left &= left - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(left));
    votes |= static_cast<std::uint64_t>(warp.brought[lane] != 0) << lane;
  }
  for (unsigned left = rendezvous.mask; left != 0; left &= left - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(left));
    warp.result[lane] = rendezvous.kind == Collective::shuffle ? warp.brought[warp.source[lane]] : votes;
  }
  warp.ready |= rendezvous.mask;
}

void BlockRunner::block_barrier(std::source_location where) {
  if (alive_ != static_cast<int>(threads_.size())) fail("__syncthreads after some threads have exited", where);
  if (at_barrier_ == 0) {
    barrier_ = where;
  } else if (barrier_.line() != where.line() || std::strcmp(barrier_.file_name(), where.file_name()) != 0) {
    fail("threads of one block wait at different __syncthreads, others" + at(barrier_), where);
  }
  if (++at_barrier_ == alive_) {
    at_barrier_ = 0;
    for (Warp& warp : warps_) warp.ready = warp.alive;
    return;
  }
  warp_of(running_).ready &= ~(1u << running_ % kWarpLanes);
  hand_over(false);
}

void* BlockRunner::shared(const void* key, std::size_t bytes) {
  for (const SharedVariable& variable : shared_) {
    if (variable.key == key) return variable.memory.data();
  }
  std::size_t total = bytes;
  for (const SharedVariable& variable : shared_) total += variable.memory.bytes();
  if (total > kMaxStaticBytes || total + dynamic_->bytes() > kMaxSharedBytes) {
    fail("more shared memory than a block may have", std::source_location::current());
  }
  return shared_.emplace_back(SharedVariable{key, GuardedMemory(bytes)}).memory.data();
}

void BlockRunner::pause(std::source_location where) {
  if (++pauses_ % alive_ == 0) {  // the other threads of the block have had their turn
    if (sticky_error(rules_.device) != cudaSuccess) {
      unwind();
      throw Unwind{};
    }
    if (std::chrono::steady_clock::now() - started_ > rules_.spin_limit) {
      fail("threads spin beyond the limit of time", where);
    }
    std::this_thread::yield();
  }
  hand_over(true);
}

BlockRunner& block_runner() {
  thread_local BlockRunner runner;
  return runner;
}

}  // namespace emulator
