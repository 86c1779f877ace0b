#include "gpu/cuda/cuda_error.h"

#include "runtime/base/error.h"

namespace tandem::gpu::cuda {

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();
  const ErrorCode code = status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::device_lost;
  fail(code, call, " failed with ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ") at ", file, ":",
       line);
}

}  // namespace tandem::gpu::cuda
