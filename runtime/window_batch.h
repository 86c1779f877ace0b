#pragma once

#include <atomic>
#include <exception>
#include <mutex>
#include <span>

#include "gpu/device.h"
#include "runtime/base/timeline.h"

namespace tandem {

/// The windows of all tasks of a step, on a device that attends them while the workers attend the host tier.
class WindowBatch {
 public:
  /// `about` is what the timeline is told.
  WindowBatch(gpu::Device& device, Timeline& timeline, const SpanSubject& about)
      : device_(device), timeline_(timeline), about_(about) {}
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
  Timeline& timeline_;
  const SpanSubject about_;
  Span::Clock::time_point launched_;
  double host_us_ = 0;
  std::atomic<bool> done_ = false;
  std::mutex mutex_;  // of the first wait
  std::exception_ptr failure_;
};

/// What the device has done since the last time, to the timeline: what began at `since` or later is said to be `about`.
/// Throws Error(device_lost).
void record_device_spans(gpu::Device& device, Timeline& timeline, Span::Clock::time_point since,
                         const SpanSubject& about);

}  // namespace tandem
