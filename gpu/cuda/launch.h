#pragma once

#include <cuda_runtime.h>

#include "gpu/cuda/cuda_error.h"

namespace tandem::gpu::cuda {

/// Starts `kernel` on `stream`. Throws as check() does, for what is wrong with the launch itself.
template <typename... Params, typename... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  TANDEM_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}

}  // namespace tandem::gpu::cuda
