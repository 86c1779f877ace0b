#include "kernel.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "block_runner.h"
#include "cuda_emulator/warp.h"
#include "sanitizers.h"

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim;
constinit thread_local dim3 gridDim;

namespace emulator {
namespace {

uint3 block_index(std::uint64_t number, const dim3& grid) {
  return {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
          static_cast<unsigned>(number / grid.x / grid.y)};
}

std::atomic<std::uint64_t> kernels{0};

}  // namespace

constinit thread_local int current_lane = -1;

void run_grid(const Grid& grid, const Config& config, const std::function<void()>& thread) {
  Random random(config.seed + kernels.fetch_add(1));
  gridDim = grid.size;
  blockDim = grid.block;
  BlockRunner& runner = block_runner();
  runner.set_rules({config.order, std::chrono::milliseconds(config.spin_limit_ms), grid.device, &random});
  const std::uint64_t total = std::uint64_t{grid.size.x} * grid.size.y * grid.size.z;
  std::vector<std::uint64_t> shuffled(config.order == Order::random ? total : 0);
  std::iota(shuffled.begin(), shuffled.end(), std::uint64_t{0});
  for (std::uint64_t i = 0; i < shuffled.size(); ++i) std::swap(shuffled[i], shuffled[i + random.below(total - i)]);
  for (std::uint64_t i = 0; i < total; ++i) {
    blockIdx = block_index(config.order == Order::random    ? shuffled[i]
                           : config.order == Order::reverse ? total - 1 - i
                                                            : i,
                           grid.size);
    runner.run(grid.dynamic_bytes, thread);
  }
}

Counters counters() { return {.fiber_switches = Fibers::switches(), .kernels = kernels}; }

void fail_outside_kernel() { throw Fault("device code runs outside of a kernel"); }
void fail_in_kernel(const std::string& what, std::source_location where) { block_runner().fail(what, where); }

std::uint64_t warp_collective(Collective kind, unsigned mask, std::uint64_t bits, unsigned source,
                              std::source_location where) {
  lane();
  return block_runner().warp_collective(kind, mask, bits, source, where);
}
void block_barrier(std::source_location where) {
  lane();
  block_runner().block_barrier(where);
}
void pause_thread(std::source_location where) {
  lane();
  block_runner().pause(where);
}
void* shared_memory(const void* key, std::size_t bytes) {
  lane();
  return block_runner().shared(key, bytes);
}
unsigned char* dynamic_shared() {
  lane();
  return block_runner().dynamic_shared();
}

void fence() {
#if defined(EMULATOR_TSAN)  // does not know fences: an operation that orders as much stands in for one
  static std::atomic<unsigned> dummy{0};
  dummy.fetch_add(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace emulator
