#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "gpu/cuda/hand_off.h"
#include "gpu/cuda/memory.h"
#include "gpu/cuda/stream.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// Throws what Device::check_tensor() says, of tensors in the current device's memory.
void check_tensor_memory(const char* tensor, const void* data, int ordinal, CallerStream caller);

/// Copies callers' tensors from and to the device, in pieces through two slots of pinned memory, on a stream of its
/// own: calls that wait for their callers do not hold up others. One call at a time.
class TensorLane {
 public:
  /// Throws Error(device_lost).
  explicit TensorLane(HandOffKind kind) : hand_off_(kind, stream_.get()) {}

  struct Limits {
    int ordinal;                        ///< of the device
    std::chrono::milliseconds timeout;  ///< not counting what the caller's stream does
  };
  /// Device::fetch(); false where it takes longer than the limit. Throws Error(invalid_argument) for a stream of
  /// another device, Error(out_of_memory), and has then done nothing.
  bool fetch(const TensorFetch* tensors, std::int64_t count, CallerStream caller, const Limits& limits);
  /// Device::put(); likewise.
  bool put(const TensorPut* tensors, std::int64_t count, CallerStream caller, const Limits& limits);
  /// Nothing is under way, so that a call need not wait for the one before. Throws Error(device_lost).
  [[nodiscard]] bool is_idle() { return hand_off_.reached() == hand_off_.signalled(); }
  [[nodiscard]] HandOff& hand_off() noexcept { return hand_off_; }

 private:
  struct Slot {
    StagingMemory host;
    DeviceMemory device;  ///< for tensors that are not dense
    std::uint64_t epoch = 0;
    std::byte* target = nullptr;  ///< of what is fetched
    std::int64_t bytes = 0;
  };
  void reserve(std::int64_t bytes, bool is_dense);
  void follow(CallerStream caller, int ordinal);
  template <typename View, typename Begin>
  bool in_pieces(const View& tensor, std::chrono::milliseconds timeout, const Begin& begin);
  void begin_fetch(Slot& slot, const TensorView& part, std::byte* target);
  void begin_put(Slot& slot, const std::byte* source, const MutableTensorView& part);
  bool free_slot(Slot& slot, std::chrono::milliseconds timeout);
  bool reaches(std::uint64_t epoch, std::chrono::milliseconds timeout);

  CudaStream stream_;
  HandOff hand_off_;
  CudaEvent caller_;  ///< what the caller's stream had been given when it was asked
  CudaEvent done_;
  std::array<Slot, 2> slots_;
  std::size_t next_slot_ = 0;
};

}  // namespace tandem::gpu::cuda
