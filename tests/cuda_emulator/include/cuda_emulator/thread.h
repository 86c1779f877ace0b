#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>

#include "cuda_emulator/vector_types.h"

namespace emulator {

/// What a kernel or a caller of the API did that CUDA does not allow. Kernels end with it; last_fault() has its text.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

extern constinit thread_local int current_lane;  ///< of the running thread in its warp; -1 outside kernels
[[noreturn]] void fail_outside_kernel();

inline unsigned lane() {
  if (current_lane < 0) fail_outside_kernel();
  return static_cast<unsigned>(current_lane);
}

enum class Collective : unsigned char { shuffle, ballot, sync };

/// Waits until every lane of `mask` has come to the same collective with the same mask. Returns what lane `source`
/// brought (shuffle), or one bit per lane that brought anything but 0 (ballot). Faults on: a mask without the caller,
/// lanes that disagree, lanes that have exited or do not exist, a source outside the mask.
std::uint64_t warp_collective(Collective kind, unsigned mask, std::uint64_t bits, unsigned source,
                              std::source_location where);
/// Waits for all threads of the block. Faults where one of them has exited or waits at another barrier of the source.
void block_barrier(std::source_location where);
/// Lets the other threads of the block, the other streams and the host go on; faults after Config::spin_limit_ms of a
/// block in which nothing else happened.
void pause_thread(std::source_location where);

void* shared_memory(const void* key, std::size_t bytes);
/// The dynamic shared memory of the block, aligned to 16 bytes.
unsigned char* dynamic_shared();

template <class Tag>
inline constexpr char kSharedKey = 0;

/// The block's own copy of the __shared__ variable that `Tag` stands for. Filled with signalling junk.
template <class Type, class Tag>
Type& shared() {
  static_assert(alignof(Type) <= 256);
  return *static_cast<Type*>(shared_memory(&kSharedKey<Tag>, sizeof(Type)));
}

}  // namespace emulator

// Of the running thread; zero outside kernels.
extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
