#pragma once
#include <cstdint>

namespace emulator {

/// A small generator (xorshift64*, Vigna, arXiv:1402.6246): orders and delays need no better one.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u | 1u) {}
  /// In [0, bound); bound >= 1.
  std::uint64_t below(std::uint64_t bound) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return (state_ * 0x2545f4914f6cdd1du >> 32) % bound;
  }

 private:
  std::uint64_t state_;
};

}  // namespace emulator
