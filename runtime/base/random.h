#pragma once

#include <cmath>
#include <cstdint>

namespace tandem {

/// Random numbers as a function of (seed, stream, counter): the same on every machine, in any order of streams.
///
/// SplitMix64 (Steele, Lea & Flood 2014) over a mixed starting point. Not for cryptography.
class CounterRandom {
 public:
  CounterRandom(std::uint64_t seed, std::uint64_t stream) noexcept : state_(mix(seed ^ mix(stream + kStep))) {}

  std::uint64_t next() noexcept { return mix(state_ += kStep); }
  /// Uniform in the open interval (0, 1).
  double uniform() noexcept { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
  /// Standard normal, by Box and Muller; one value per two uniforms, so that the count of draws stays fixed.
  double normal() noexcept {
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return radius * std::cos(6.283185307179586476925 * uniform());
  }
  /// Uniform in [0, bound), bound >= 1.
  std::uint64_t below(std::uint64_t bound) noexcept {
    return static_cast<std::uint64_t>(uniform() * static_cast<double>(bound));
  }

 private:
  static constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15u;
  static constexpr std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

}  // namespace tandem
