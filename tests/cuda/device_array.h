#pragma once

#include <cstddef>
#include <vector>

#include <gtest/gtest.h>

#include "gpu/cuda/memory.h"
#include "gpu/cuda/stream.h"

namespace tandem::testing {

/// Elements in a device's memory: what a kernel reads, or writes.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values)
      : size_(values.size()), memory_(static_cast<std::int64_t>(size_ * sizeof(T))) {
    if (size_ > 0) copy(memory_.data(), values.data(), cudaMemcpyHostToDevice);
  }
  /// Of junk.
  explicit DeviceArray(std::int64_t size)
      : size_(static_cast<std::size_t>(size)), memory_(size * static_cast<std::int64_t>(sizeof(T))) {}

  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  [[nodiscard]] std::vector<T> values() const {
    std::vector<T> result(size_);
    if (size_ > 0) copy(result.data(), memory_.data(), cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  void copy(void* to, const void* from, cudaMemcpyKind kind) const {
    const gpu::cuda::CudaStream stream;
    EXPECT_EQ(cudaMemcpyAsync(to, from, size_ * sizeof(T), kind, stream.get()), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
  }
  std::size_t size_;
  gpu::cuda::DeviceMemory memory_;
};

}  // namespace tandem::testing
