#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

#include "gpu/device.h"
#include "runtime/base/error.h"

namespace tandem::gpu {

/// How far the work of one stream is: its operations are numbered from 1 on as they are launched, and finish in that
/// order. Thread-safe.
class StreamEpochs {
 public:
  /// Returns the number of the operation.
  std::int64_t launch() noexcept { return launched_.fetch_add(1, std::memory_order_relaxed) + 1; }
  /// Operation `epoch` and those before it have finished.
  void finish(std::int64_t epoch) noexcept {
    std::int64_t known = finished_.load(std::memory_order_relaxed);
    while (known < epoch && !finished_.compare_exchange_weak(known, epoch, std::memory_order_release)) {
    }
  }
  [[nodiscard]] std::int64_t launched() const noexcept { return launched_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t finished() const noexcept { return finished_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::int64_t> launched_ = 0, finished_ = 0;
};

/// What a device's wait() says once its time is up: throws Error(device_lost) with the figures.
[[noreturn]] inline void fail_overdue(const std::string& device, Stream stream, const StreamEpochs& epochs,
                                      std::chrono::milliseconds timeout) {
  fail(ErrorCode::device_lost, device, ": stream ", stream.id, " has not finished within ", timeout.count(),
       " ms (device_timeout_ms): ", epochs.launched(), " operations launched, ", epochs.finished(), " finished");
}

}  // namespace tandem::gpu
