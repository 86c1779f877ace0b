#pragma once

#include <cuda_runtime_api.h>

namespace tandem::gpu::cuda {

/// Throws where `status` is not success: Error(out_of_memory) for memory that the device refused, Error(device_lost)
/// otherwise, naming `call`, CUDA's error and the place. Clears the runtime's last error, so that no later check
/// reports it again.
void check(cudaError_t status, const char* call, const char* file, int line);

}  // namespace tandem::gpu::cuda

#define TANDEM_CUDA_CHECK(call) ::tandem::gpu::cuda::check((call), #call, __FILE__, __LINE__)
