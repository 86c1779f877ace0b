#pragma once

#include <atomic>
#include <exception>
#include <mutex>
#include <span>

#include "gpu/device.h"

namespace tandem {

/// The windows of all tasks of a step, on a device that attends them while the workers attend the host tier.
class WindowBatch {
 public:
  explicit WindowBatch(gpu::Device& device) : device_(device) {}
  WindowBatch(const WindowBatch&) = delete;
  WindowBatch& operator=(const WindowBatch&) = delete;

  /// Begins them all. What they point to belongs to the device until wait() has returned or thrown. Throws
  /// Error(device_lost).
  void launch(std::span<const gpu::WindowAttention> windows);
  /// Returns when their results are there: the first caller waits for the device, once. Throws what the device threw,
  /// whoever calls. Thread-safe.
  void wait();
  /// Microseconds that the host spent on launching and waiting.
  [[nodiscard]] double host_us() const noexcept { return host_us_; }

 private:
  gpu::Device& device_;
  double host_us_ = 0;
  std::atomic<bool> done_ = false;
  std::mutex mutex_;  // of the first wait
  std::exception_ptr failure_;
};

}  // namespace tandem
