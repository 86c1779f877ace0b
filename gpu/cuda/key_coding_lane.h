#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "cpu/key_coding.h"
#include "gpu/cuda/kernels/coding_work.cuh"
#include "gpu/cuda/mirror.h"

namespace tandem::gpu::cuda {

/// Rows that go to the device together, so few that an attention which is launched meanwhile waits for some tens of
/// microseconds: 1,024 keys of 128 bf16 numbers are copied in 10 us from PCIe 4.0, and coded in about as many.
inline constexpr std::int64_t kCodingPieceRows = 1024;
/// Pieces of one caller that are under way: while the device codes one, the host fills the other and empties it.
inline constexpr std::int64_t kCodingPieces = 2;
/// Callers that are served at a time. With the pieces of both, a step waits for four at most.
inline constexpr int kCodingLanes = 2;

/// False for keys that there are no kernels for.
[[nodiscard]] bool can_code(const cpu::KeyCoding& coding) noexcept;

/// The memory of one caller of CudaDevice::code_keys(): what is coded in turn, and a copy of the tables of the last
/// call. Grows to the largest call and then stays: at most 7 MiB of pinned and of device memory, for 256 fp32 numbers
/// and 300 tables, and 0.6 MiB for sketches of 128 bf16 numbers. Not thread-safe.
class KeyCodingLane {
 public:
  /// Makes room for a call and sends its tables, unless they are those of the last one. Throws Error(out_of_memory),
  /// and nothing has been sent, or Error(device_lost). The pieces of the last call are done.
  void begin(const cpu::KeyCoding& coding, cudaStream_t stream);
  /// Copies the keys of a piece where the device can fetch them; the piece two before it has been taken.
  void stage(std::int64_t piece);
  /// Starts a staged piece. Throws Error(device_lost).
  void launch(std::int64_t piece, cudaStream_t stream) const;
  /// Copies the codes of a piece, which is done, to the caller.
  void take(std::int64_t piece) const;

  [[nodiscard]] std::int64_t num_pieces() const noexcept {
    return (coding_->count + kCodingPieceRows - 1) / kCodingPieceRows;
  }

 private:
  struct Slot {
    Upload keys;                                             ///< mean, rows
    Download codes;                                          ///< inverse norms, blocks
    std::int64_t mean = 0, rows = 0, norms = 0, blocks = 0;  ///< where these begin
  };
  [[nodiscard]] const Slot& slot(std::int64_t piece) const noexcept {
    return slots_[static_cast<std::size_t>(piece % kCodingPieces)];
  }
  /// Rows of the call that a piece has.
  [[nodiscard]] std::int64_t rows_of(std::int64_t piece) const noexcept;
  /// For `rows` rows.
  void make_room(Slot& slot, std::int64_t rows) const;
  void load_sketch(const cpu::SketchTables& tables);
  void load_hash(const cpu::SimHash& hash);

  const cpu::KeyCoding* coding_ = nullptr;  ///< of the present call
  std::int64_t key_bytes_ = 0;              ///< of a row, what kernels read
  std::int64_t block_bytes_ = 0;
  Upload tables_;
  std::weak_ptr<const void> owner_;  ///< of the tables that were sent last
  SketchCoding sketch_{};
  HashCoding hash_{};
  std::array<Slot, static_cast<std::size_t>(kCodingPieces)> slots_;
};

}  // namespace tandem::gpu::cuda
