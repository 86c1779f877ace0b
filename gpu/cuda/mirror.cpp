#include "gpu/cuda/mirror.h"

#include <algorithm>
#include <cstring>

#include "gpu/cuda/cuda_error.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::int64_t kAlignment = 64;

constexpr std::int64_t aligned(std::int64_t bytes) noexcept {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

void Mirror::reserve(std::int64_t bytes) {
  if (bytes > host_.bytes()) {
    StagingMemory larger(aligned(std::max(bytes, 2 * host_.bytes())));
    if (used_ > 0) std::memcpy(larger.data(), host_.data(), static_cast<std::size_t>(used_));
    host_ = std::move(larger);
  }
}

std::int64_t Mirror::add(std::int64_t bytes) {
  const std::int64_t offset = used_;
  reserve(offset + aligned(bytes));
  used_ = offset + aligned(bytes);
  return offset;
}

void Mirror::settle(std::int64_t more) {
  reserve(used_ + more);
  if (device_.bytes() >= used_ + more) return;
  device_ = DeviceMemory(std::max(used_ + more, 2 * device_.bytes()));  // the old one goes after the new one is there
}

void Upload::send(cudaStream_t stream) const {
  if (used_ == 0) return;
  TANDEM_CUDA_CHECK(
      cudaMemcpyAsync(device_.data(), host_.data(), static_cast<std::size_t>(used_), cudaMemcpyHostToDevice, stream));
}

void Download::fetch(cudaStream_t stream) const {
  if (used_ == 0) return;
  TANDEM_CUDA_CHECK(
      cudaMemcpyAsync(host_.data(), device_.data(), static_cast<std::size_t>(used_), cudaMemcpyDeviceToHost, stream));
}

}  // namespace tandem::gpu::cuda
