#pragma once

// All in which nvcc, NVRTC and a host compiler with the emulator (tests/cuda_emulator) differ. Kernel headers include
// this, <cstdint>, <cstddef>, each other, and nothing else that is not as plain.

#include <cstddef>
#include <cstdint>

#if !defined(__CUDACC_RTC__)
#include <cuda_runtime.h>
#endif

#if defined(TANDEM_CUDA_EMULATED)
/// A shared variable of a block, of a type without constructors.
#define TANDEM_SHARED(Type, name) \
  struct name##Tag {};            \
  Type& name = ::emulator::shared<Type, name##Tag>()
/// The dynamic shared memory of a block, 16-byte aligned.
#define TANDEM_DYNAMIC_SHARED(name) unsigned char* const name = ::emulator::dynamic_shared()
#else
#define TANDEM_SHARED(Type, name) __shared__ Type name
#define TANDEM_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

namespace tandem::gpu::cuda {

inline constexpr unsigned kWholeWarp = 0xffffffffu;
inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

#if defined(__CUDACC__) || defined(TANDEM_CUDA_EMULATED)  // host code reads the structs of kernels, too
__device__ inline float infinity() { return __uint_as_float(0x7f800000u); }
#endif

/// Begins to bring a cache line of global memory to the L2 cache.
__device__ inline void prefetch_to_l2(const void* address) {
#if defined(__CUDA_ARCH__)
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#else
  (void)address;
#endif
}

}  // namespace tandem::gpu::cuda
