#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

#include "gpu/cuda/hand_off.h"
#include "gpu/cuda/memory.h"
#include "gpu/cuda/piece_ring.h"
#include "gpu/cuda/stream.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// How much goes to the device at once. Where pieces end decides bits; how many queries share a pass does not.
struct StreamingSizes {
  std::int64_t piece_bytes = std::int64_t{4} << 20;   ///< at least 256 rows
  std::int64_t query_floats = std::int64_t{1} << 20;  ///< of the queries of a pass, and of their values
  std::int64_t vectors = std::int64_t{1} << 14;       ///< of a pass, at most

  [[nodiscard]] std::int64_t input_bytes() const noexcept;
  [[nodiscard]] std::int64_t output_bytes() const noexcept;
  [[nodiscard]] std::int64_t state_bytes() const noexcept;
  /// In all: 33 MiB.
  [[nodiscard]] std::int64_t device_bytes() const noexcept;
  /// Pinned, in all: 25 MiB.
  [[nodiscard]] std::int64_t host_bytes() const noexcept;
};

/// Attention over rows in host memory (Device::host_attention) of one device.
///
/// A pass is a store and as many of its tasks as there is room for: their queries go to the device, the rows that they
/// see follow piece by piece (PieceRing), and each piece is joined to the states of all vectors, which stay in device
/// memory until the last one. Two passes may be under way. Thread-safe; calls of attend() run one after the other.
class RowStreaming {
 public:
  /// Takes all memory that it will ever use. Throws Error(out_of_memory).
  explicit RowStreaming(HandOffKind kind, const StreamingSizes& sizes = {});

  /// Whether there are kernels for such rows: fp32, fp16 and bf16 ones.
  [[nodiscard]] static bool takes(const cpu::RowLayout& layout) noexcept;
  /// As Device::host_attention(). Results that are there are handed over by this call, or by any wait(). Throws
  /// Error(device_lost), and has forgotten the tasks then.
  std::int64_t attend(const HostRowsAttention* batch, std::int64_t count, std::chrono::milliseconds timeout);
  /// Returns when all results are handed over of what was begun before. Throws Error(device_lost).
  void wait(std::chrono::milliseconds timeout);
  /// Forgets all tasks: results that are not handed over never will be.
  void abandon() noexcept;
  /// The device did not answer in time, and may use this memory still.
  [[nodiscard]] bool stuck() const noexcept { return stuck_ || ring_.stuck(); }

 private:
  struct Pass {
    const HostRowsAttention* tasks;
    std::int64_t count, vectors;
    cpu::RowRange rows;  ///< that some query sees
  };
  /// Memory of one pass on the host.
  struct Slot {
    std::byte *input, *output;
    std::uint64_t done = 0;  ///< epoch; 0: never used
  };
  struct Pending {
    std::uint64_t epoch, call;
    const std::byte* output;
    std::vector<PartialAttention> results;
  };

  [[nodiscard]] Pass next_pass(const HostRowsAttention* batch, std::int64_t count) const;
  void run(const Pass& pass, std::uint64_t call, std::chrono::milliseconds timeout);
  Queries send_queries(const Pass& pass, std::byte* staging) const;
  [[nodiscard]] std::vector<PartialAttention> results_of(const Pass& pass) const;
  void hand_over_reached();
  void forget(std::uint64_t call) noexcept;

  const StreamingSizes sizes_;
  StagingMemory on_host_;
  DeviceMemory on_device_;
  std::mutex calls_;  ///< of attend()
  CudaStream stream_;
  HandOff done_;
  PieceRing ring_;
  std::array<Slot, 2> slots_;
  std::byte *input_, *states_, *output_;  ///< in device memory
  std::size_t next_slot_ = 0;
  std::uint64_t num_calls_ = 0;
  std::atomic<bool> stuck_ = false;
  std::mutex mutex_;  ///< of what follows
  std::vector<Pending> pending_;
};

}  // namespace tandem::gpu::cuda
