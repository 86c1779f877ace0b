#include "gpu/cuda/upload.h"

#include <algorithm>
#include <cstring>

#include "gpu/cuda/cuda_error.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kLeastBytes = std::int64_t{1} << 16;

constexpr std::int64_t aligned(std::int64_t bytes) noexcept { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// Makes both hold `needed` bytes, the first `used` of `host` kept.
void grow(StagingMemory& host, DeviceMemory& device, std::int64_t used, std::int64_t needed) {
  if (needed <= host.bytes() && needed <= device.bytes()) return;
  const std::int64_t bytes = std::max({kLeastBytes, needed, 2 * host.bytes()});
  StagingMemory larger(bytes);
  device = DeviceMemory();  // the old one first: together they might not fit
  device = DeviceMemory(bytes);
  if (used > 0) std::memcpy(larger.data(), host.data(), static_cast<std::size_t>(used));
  host = std::move(larger);
}

}  // namespace

std::int64_t Upload::add(std::int64_t bytes) {
  const std::int64_t offset = used_;
  grow(host_, device_, used_, offset + aligned(bytes));
  used_ += aligned(bytes);
  return offset;
}

void Upload::send(cudaStream_t stream) const {
  if (used_ == 0) return;
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(device_.data(), host_.data(), static_cast<std::size_t>(used_),
                                    cudaMemcpyHostToDevice, stream));
}

std::int64_t Download::add(std::int64_t bytes) {
  const std::int64_t offset = used_;
  grow(host_, device_, 0, offset + aligned(bytes));
  used_ += aligned(bytes);
  return offset;
}

void Download::fetch(cudaStream_t stream) const {
  if (used_ == 0) return;
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(host_.data(), device_.data(), static_cast<std::size_t>(used_),
                                    cudaMemcpyDeviceToHost, stream));
}

}  // namespace tandem::gpu::cuda
