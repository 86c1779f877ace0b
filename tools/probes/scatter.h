#pragma once

#include <bit>
#include <cstdint>

namespace tandem::probes {

/// The numbers 0 to count() - 1 in an order that neither a prefetcher nor a page walk can foresee: each once.
///
/// A bijection of words of `bits` bits: odd multiplications and right shifts (Steele, Lea and Flood, OOPSLA 2014, after
/// the finaliser of MurmurHash3).
class Scatter {
 public:
  /// Of the largest power of two that is not above `most`, which is at least 1.
  explicit Scatter(std::int64_t most)
      : bits_(std::bit_width(static_cast<std::uint64_t>(most)) - 1), mask_((std::uint64_t{1} << bits_) - 1) {}

  [[nodiscard]] std::int64_t count() const noexcept { return static_cast<std::int64_t>(mask_) + 1; }
  /// `i` counts modulo count().
  [[nodiscard]] std::int64_t operator()(std::int64_t i) const noexcept {
    const int shift = bits_ / 2 + 1;
    auto x = static_cast<std::uint64_t>(i) & mask_;
    x = (x * 0x9e3779b97f4a7c15u) & mask_;
    x ^= x >> shift;
    x = (x * 0xbf58476d1ce4e5b9u) & mask_;
    x ^= x >> shift;
    x = (x * 0x94d049bb133111ebu) & mask_;
    return static_cast<std::int64_t>(x ^ (x >> shift));
  }

 private:
  int bits_;
  std::uint64_t mask_;
};

}  // namespace tandem::probes
