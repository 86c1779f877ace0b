#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace tandem::gpu::cuda {

/// Memory of the current device, not initialised. Move-only. Freeing waits for the device, as CUDA does.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  /// Throws Error(out_of_memory) with what was asked for, and what the device has free and in all.
  explicit DeviceMemory(std::int64_t bytes);
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// Host memory that devices copy from and to: pinned, so that copies are asynchronous, or, where the system refuses
/// that, pageable, which costs time and is logged. Move-only. Throws Error(out_of_memory) where there is neither.
class StagingMemory {
 public:
  StagingMemory() = default;
  explicit StagingMemory(std::int64_t bytes);
  /// Pinned or not at all: Error(out_of_memory).
  static StagingMemory pinned_only(std::int64_t bytes);
  StagingMemory(StagingMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        pinned_(std::exchange(other.pinned_, false)) {}
  StagingMemory& operator=(StagingMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(pinned_, other.pinned_);
    return *this;
  }
  StagingMemory(const StagingMemory&) = delete;
  StagingMemory& operator=(const StagingMemory&) = delete;
  ~StagingMemory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool pinned() const noexcept { return pinned_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
  bool pinned_ = false;
};

}  // namespace tandem::gpu::cuda
