#pragma once
#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include "cuda_emulator/emulator.h"
#include "cuda_emulator/thread.h"
#include "fibers.h"
#include "guarded_memory.h"
#include "random.h"

namespace emulator {

constexpr int kWarpLanes = 32;

/// A collective that some lanes of a warp wait at.
struct Rendezvous {
  Collective kind;
  unsigned mask;
  unsigned arrived;
  std::source_location where;
};

struct Warp {
  unsigned ready = 0;  ///< lanes that can run
  unsigned alive = 0;  ///< lanes that have not exited
  unsigned last = 0;   ///< lane that ran last
  std::vector<Rendezvous> waiting;
  std::array<std::uint64_t, kWarpLanes> brought;
  std::array<std::uint64_t, kWarpLanes> result;
  std::array<unsigned, kWarpLanes> source;
};

/// Runs the blocks of kernels, one after the other, on the fibers of one thread of the host.
class BlockRunner {
 public:
  struct Rules {
    Order order;
    std::chrono::milliseconds spin_limit;
    int device;
    Random* random;
  };

  BlockRunner();
  void set_rules(const Rules& rules) { rules_ = rules; }
  /// Runs `body` once per thread of the block blockIdx of blockDim threads. Throws Fault, or DeviceFailure where the
  /// device is lost while threads spin.
  void run(std::size_t dynamic_bytes, const std::function<void()>& body);

  // What the running thread of the block asks for; see thread.h.
  std::uint64_t warp_collective(Collective kind, unsigned mask, std::uint64_t bits, unsigned source,
                                std::source_location where);
  void block_barrier(std::source_location where);
  void pause(std::source_location where);
  void* shared(const void* key, std::size_t bytes);
  unsigned char* dynamic_shared() { return dynamic_->data(); }
  [[noreturn]] void fail(const std::string& what, std::source_location where);

 private:
  struct SharedVariable {
    const void* key;
    GuardedMemory memory;
  };
  struct Unwind {};  // thrown in threads that need not go on, because another one has failed

  int run_thread(int thread);
  void exit_thread(int thread);
  void start(std::size_t dynamic_bytes);
  void finish();
  void enter(int thread);
  void hand_over(bool leave_warp);
  int next_thread(bool leave_warp);
  void report_deadlock();
  void give_up(const std::string& what);
  void unwind();
  void complete(Warp& warp, const Rendezvous& rendezvous);
  void join(Warp& warp, unsigned lane, const Rendezvous& wanted);
  [[nodiscard]] std::string coordinates() const;
  [[nodiscard]] Warp& warp_of(int thread) { return warps_[static_cast<std::size_t>(thread / kWarpLanes)]; }

  Fibers fibers_;
  std::vector<uint3> threads_;
  std::vector<Warp> warps_;
  std::vector<SharedVariable> shared_;
  std::optional<GuardedMemory> dynamic_;
  const std::function<void()>* body_ = nullptr;
  Rules rules_{};
  std::chrono::steady_clock::time_point started_;
  int running_ = Fibers::kThread;
  int alive_ = 0;
  int at_barrier_ = 0;
  int pauses_ = 0;
  std::source_location barrier_;
  bool unwinding_ = false;
  std::optional<Fault> fault_;
};

/// The runner of the calling thread of the host.
BlockRunner& block_runner();

}  // namespace emulator
