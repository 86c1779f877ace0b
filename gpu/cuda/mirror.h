#pragma once

#include <cstdint>

#include "gpu/cuda/memory.h"
#include "gpu/cuda/stream.h"

namespace tandem::gpu::cuda {

/// Host memory and device memory of the same layout, made of parts that are added one by one. Parts are offsets: host
/// addresses hold until the next add(), device addresses from settle() on until the next add(). Grows to the largest
/// use and then stays. Not thread-safe. Throws Error(out_of_memory), and is as it was.
class Mirror {
 public:
  void reserve(std::int64_t bytes);
  void clear() noexcept { used_ = 0; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return used_; }
  /// Takes back what was added beyond the first `bytes`.
  void shrink(std::int64_t bytes) noexcept { used_ = bytes; }
  /// Room for `bytes`, aligned to 64.
  std::int64_t add(std::int64_t bytes);
  /// Both memories hold what was added and `more` bytes.
  void settle(std::int64_t more = 0);

  [[nodiscard]] bool pinned() const noexcept { return host_.pinned(); }

  template <typename T = std::byte>
  [[nodiscard]] T* host(std::int64_t offset) const noexcept {
    return reinterpret_cast<T*>(host_.data() + offset);
  }
  template <typename T = std::byte>
  [[nodiscard]] T* device(std::int64_t offset) const noexcept {
    return reinterpret_cast<T*>(device_.data() + offset);
  }

 protected:
  StagingMemory host_;
  DeviceMemory device_;
  std::int64_t used_ = 0;
};

/// What kernels of one submission read besides windows: written on the host, sent with one copy.
class Upload : public Mirror {
 public:
  void send(cudaStream_t stream) const;  ///< throws Error(device_lost)
};

/// What kernels of one submission give back: written on the device, fetched with one copy.
class Download : public Mirror {
 public:
  void fetch(cudaStream_t stream) const;  ///< throws Error(device_lost)
};

}  // namespace tandem::gpu::cuda
