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

void Mirror::settle() {
  if (device_.bytes() >= host_.bytes()) return;
  device_ = DeviceMemory();  // the old one first: together they might not fit
  device_ = DeviceMemory(host_.bytes());
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
