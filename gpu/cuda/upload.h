#pragma once

#include <cstdint>

#include "gpu/cuda/memory.h"
#include "gpu/cuda/stream.h"

namespace tandem::gpu::cuda {

/// What kernels of one submission read besides windows: gathered on the host, sent with one copy. Places are offsets; the
/// memory may move until everything has been added. Grows to the largest submission and then stays. Not thread-safe.
class Upload {
 public:
  void clear() noexcept { used_ = 0; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return used_; }
  /// Room for `bytes`, aligned to 64. Throws Error(out_of_memory), and what was added stays.
  std::int64_t add(std::int64_t bytes);

  template <typename T = std::byte>
  [[nodiscard]] T* host(std::int64_t offset) const noexcept {
    return reinterpret_cast<T*>(host_.data() + offset);
  }
  /// After the last add().
  template <typename T = std::byte>
  [[nodiscard]] T* device(std::int64_t offset) const noexcept {
    return reinterpret_cast<T*>(device_.data() + offset);
  }
  /// Throws Error(device_lost).
  void send(cudaStream_t stream) const;

 private:
  StagingMemory host_;
  DeviceMemory device_;
  std::int64_t used_ = 0;
};

/// What kernels of one submission give back: written on the device, fetched with one copy. As Upload otherwise.
class Download {
 public:
  void clear() noexcept { used_ = 0; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return used_; }
  std::int64_t add(std::int64_t bytes);

  /// Once the submission is done.
  template <typename T = std::byte>
  [[nodiscard]] const T* host(std::int64_t offset) const noexcept {
    return reinterpret_cast<const T*>(host_.data() + offset);
  }
  /// After the last add().
  template <typename T = std::byte>
  [[nodiscard]] T* device(std::int64_t offset) const noexcept {
    return reinterpret_cast<T*>(device_.data() + offset);
  }
  void fetch(cudaStream_t stream) const;

 private:
  StagingMemory host_;
  DeviceMemory device_;
  std::int64_t used_ = 0;
};

}  // namespace tandem::gpu::cuda
