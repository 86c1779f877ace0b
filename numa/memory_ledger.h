#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace tandem::numa {

class MemoryLedger;

/// Bytes taken from a ledger, given back on destruction. Move-only; must not outlive its ledger.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Reservation& operator=(Reservation&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation();

  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

 private:
  friend class MemoryLedger;
  Reservation(MemoryLedger* ledger, std::int64_t bytes) : ledger_(ledger), bytes_(bytes) {}
  MemoryLedger* ledger_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// Counts host memory before it is allocated, so that a refusal comes as an error with figures and not from the kernel.
/// Thread-safe.
class MemoryLedger {
 public:
  explicit MemoryLedger(std::int64_t limit_bytes);
  ~MemoryLedger() = default;
  MemoryLedger(const MemoryLedger&) = delete;
  MemoryLedger& operator=(const MemoryLedger&) = delete;

  /// Throws Error(out_of_memory) naming `what`, the bytes asked for and the bytes left; the ledger is then unchanged.
  Reservation reserve(std::int64_t bytes, const char* what);

  [[nodiscard]] std::int64_t limit_bytes() const noexcept { return limit_bytes_; }
  [[nodiscard]] std::int64_t used_bytes() const noexcept { return used_bytes_.load(std::memory_order_relaxed); }

 private:
  friend class Reservation;
  const std::int64_t limit_bytes_;
  std::atomic<std::int64_t> used_bytes_{0};
};

}  // namespace tandem::numa
