#pragma once

#include <cuda_runtime_api.h>

#include "gpu/cuda/cuda_error.h"
#include "gpu/cuda/kernels/tensor_core.cuh"

namespace tandem::gpu::cuda {

/// Whether the current device has what kernels/tensor_core.cuh uses. Throws Error(device_lost).
inline bool has_tensor_cores() {
  int device = 0, major = 0;
  TANDEM_CUDA_CHECK(cudaGetDevice(&device));
  TANDEM_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return major >= kTensorCoreMajor;
}

}  // namespace tandem::gpu::cuda
