#pragma once

#include "gpu/cuda/kernels/platform.cuh"

// Products that are rounded before something is added to them, as they are on the host, where nvcc would join the two.

namespace tandem::gpu::cuda {

#if defined(__CUDA_ARCH__)
__device__ inline float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double rounded_product(double a, double b) { return __dmul_rn(a, b); }
#else
inline float rounded_product(float a, float b) { return a * b; }
inline double rounded_product(double a, double b) { return a * b; }
#endif

}  // namespace tandem::gpu::cuda
