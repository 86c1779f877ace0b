#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "cpu/attention_pass.h"
#include "cpu/kv_store.h"
#include "gpu/cuda/hand_off.h"
#include "gpu/cuda/kernels/prefill_work.cuh"
#include "gpu/cuda/memory.h"
#include "gpu/cuda/stream.h"
#include "numa/worker_pool.h"

namespace tandem::gpu::cuda {

/// Throws Error(device_lost) with both sides' figures when `hand_off` has not reached `epoch` after `timeout`, and sets
/// `stuck` then.
void await(HandOff& hand_off, std::uint64_t epoch, std::chrono::milliseconds timeout, std::atomic<bool>& stuck);

/// Rows of a store on their way to the device.
struct RowSource {
  const cpu::KvStore& store;
  std::int64_t first_position;  ///< of row 0
  RowList left_out;             ///< rows that take no part, ascending
  numa::NodeWorkers helpers;    ///< who share the copying
};

/// Pieces of rows that go to the device through two pieces of pinned memory on the host and two of device memory, on a
/// stream of their own: one is copied while another is read. Piece i of a store holds the piece_rows() rows from
/// i * piece_rows() on. Not thread-safe.
class PieceRing {
 public:
  static constexpr std::int64_t kMostRows = 8192;
  static constexpr std::int64_t kMaskBytes = kMostRows / 8;
  /// Of memory that a piece takes.
  static constexpr std::int64_t slot_bytes(std::int64_t piece_bytes) noexcept { return piece_bytes + kMaskBytes; }

  /// Pieces of at most `piece_bytes`. `on_host` and `on_device` have room for two slots and outlive the ring.
  PieceRing(HandOffKind kind, std::int64_t piece_bytes, std::byte* on_host, std::byte* on_device);

  [[nodiscard]] std::int64_t piece_rows(const cpu::RowLayout& layout) const noexcept;
  /// Sends those of the rows [rows.begin, rows.end) that lie in a piece; work that `reader` is given from here on finds
  /// them. Rows before the page of rows.begin are not there. release() must follow.
  PrefillRows send(const RowSource& source, std::int64_t piece, cpu::RowRange rows, cudaStream_t reader,
                   std::chrono::milliseconds timeout);
  /// The piece may be written over when `reader` has done what it was given so far.
  void release(cudaStream_t reader);

  [[nodiscard]] std::int64_t bytes_sent() const noexcept { return bytes_sent_; }
  [[nodiscard]] bool stuck() const noexcept { return stuck_; }

 private:
  struct Slot {
    std::byte *on_host, *on_device;
    std::uint64_t copied = 0;  ///< epoch; 0: nothing was
    bool was_read = false;
    CudaEvent arrived, read;
  };
  void fill(const RowSource& source, std::int64_t first, cpu::RowRange rows, std::byte* target) const;
  void send_bytes(const Slot& slot, std::int64_t offset, std::int64_t bytes);

  const std::int64_t piece_bytes_;
  CudaStream stream_;
  HandOff copied_;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
  std::int64_t bytes_sent_ = 0;
  std::atomic<bool> stuck_ = false;
};

}  // namespace tandem::gpu::cuda
