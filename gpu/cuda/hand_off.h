#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

#include "gpu/cuda/stream.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// Epochs 1, 2, .. that a stream reaches one after the other, as the host sees them. One thread signals at a time; any
/// number wait.
class HandOff {
 public:
  /// Where the device or the driver has no stream memory operations, or pinned memory is refused, `flag` becomes
  /// `event`, which is logged. Throws Error(device_lost).
  HandOff(HandOffKind kind, cudaStream_t stream);
  ~HandOff();
  HandOff(const HandOff&) = delete;
  HandOff& operator=(const HandOff&) = delete;

  [[nodiscard]] HandOffKind kind() const noexcept { return kind_; }
  [[nodiscard]] std::uint64_t signalled() const noexcept { return signalled_.load(std::memory_order_relaxed); }
  /// The epoch that the stream reaches when everything is done that it has been given so far. Throws
  /// Error(device_lost).
  std::uint64_t signal();
  /// The last epoch that the stream has reached; what it wrote before is visible. Throws Error(device_lost).
  std::uint64_t reached();
  /// True when the stream has reached `epoch`, false when it has not after `timeout`. Throws Error(device_lost) when
  /// the stream fails.
  bool wait(std::uint64_t epoch, std::chrono::milliseconds timeout);

 private:
  struct PendingEvent {
    std::uint64_t epoch;
    CudaEvent event;
  };
  bool use_flag();
  [[nodiscard]] bool write_flag(std::uint64_t epoch) const;
  std::uint64_t reached_by_flag() const noexcept;
  std::uint64_t reached_by_events();

  HandOffKind kind_;
  cudaStream_t stream_;
  std::atomic<std::uint64_t> signalled_{0};
  std::uint32_t* flag_ = nullptr;  // pinned; the lower half of the epoch
  std::uint64_t flag_on_device_ = 0;
  void* write_value_ = nullptr;  // the driver's function
  std::atomic<std::uint64_t> called_{0};
  std::mutex mutex_;  // of what follows
  std::uint64_t seen_ = 0;
  std::vector<PendingEvent> pending_;  // by epoch
  std::vector<CudaEvent> idle_;
};

}  // namespace tandem::gpu::cuda
