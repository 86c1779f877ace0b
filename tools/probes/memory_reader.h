#pragma once

#include <cstdint>

#include "numa/host_buffer.h"

namespace tandem::probes {

/// A buffer larger than the last-level cache. Reading all of it does two things: it says how fast memory is, and it
/// leaves nothing else in the caches, as the other layers and the weights of a model do between two attention steps.
class MemoryReader {
 public:
  /// Throws Error(out_of_memory).
  MemoryReader(const numa::Topology& topology, std::int64_t bytes);

  [[nodiscard]] std::int64_t bytes() const noexcept { return buffer_.bytes(); }
  /// Reads the buffer once with `threads` threads. Returns GB/s (1e9 bytes).
  double read(int threads) const;
  /// The best of three reads, of three that ask for every line in time, and of three that read four rows in turn.
  [[nodiscard]] double bandwidth(int threads) const;
  /// GB/s of reading every 50th row of 512 bytes, which no cache holds; the best of three, each after a read of the
  /// whole buffer.
  [[nodiscard]] double scattered_bandwidth(int threads) const;

 private:
  /// By work(first byte, bytes) over a part for each thread, whose bytes are a multiple of 2048.
  template <typename Work>
  double swept(int threads, const Work& work) const;

  numa::MemoryLedger ledger_;
  numa::HostBuffer buffer_;
};

}  // namespace tandem::probes
