#include "gpu/cuda/memory.h"

#include <cstdlib>

#include <cuda_runtime_api.h>

#include "gpu/cuda/cuda_error.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::int64_t kAlignment = 64;

/// nullptr where the system refuses it.
std::byte* allocate_pinned(std::int64_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaHostAlloc(&data, static_cast<std::size_t>(bytes), cudaHostAllocPortable);
  if (status == cudaSuccess) return static_cast<std::byte*>(data);
  if (status != cudaErrorMemoryAllocation) TANDEM_CUDA_CHECK(status);
  (void)cudaGetLastError();
  return nullptr;
}

}  // namespace

DeviceMemory::DeviceMemory(std::int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    std::size_t free = 0, total = 0;
    TANDEM_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    fail(ErrorCode::out_of_memory, "the device refused ", bytes, " bytes; it has ", free, " of ", total, " bytes free");
  }
  TANDEM_CUDA_CHECK(status);
  data_ = static_cast<std::byte*>(data);
}

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) (void)cudaFree(data_);  // a lost device has no memory to give back
}

StagingMemory StagingMemory::pinned_only(std::int64_t bytes) {
  StagingMemory memory;
  memory.bytes_ = bytes;
  memory.data_ = allocate_pinned(bytes);
  memory.pinned_ = memory.data_ != nullptr;
  TANDEM_CHECK(memory.pinned_, out_of_memory, "the system refused ", bytes, " bytes of pinned memory");
  return memory;
}

StagingMemory::StagingMemory(std::int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* data = allocate_pinned(bytes);
  pinned_ = data != nullptr;
  if (!pinned_) {
    log(LogLevel::warning, concat("the system refused ", bytes,
                                  " bytes of pinned memory; copies to and from the device "
                                  "go through pageable memory and wait for it"));
    data = std::aligned_alloc(kAlignment, static_cast<std::size_t>((bytes + kAlignment - 1) / kAlignment * kAlignment));
    TANDEM_CHECK(data != nullptr, out_of_memory, "the system refused ", bytes, " bytes, pinned or not");
  }
  data_ = static_cast<std::byte*>(data);
}

StagingMemory::~StagingMemory() {
  if (data_ == nullptr) return;
  if (pinned_) {
    (void)cudaFreeHost(data_);
  } else {
    std::free(data_);
  }
}

}  // namespace tandem::gpu::cuda
