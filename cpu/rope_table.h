#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/rope.h"

namespace tandem::cpu {

/// The angles of a RoPE, without a sine or cosine at run time: tables of every byte of a position, whose entries are
/// multiplied as complex numbers in double. What `at` gives is within 1e-9 of the angle's cosine and sine, below
/// position 10^7 within 1e-13, and so exact to fp32 rounding.
///
/// Elements of a row are taken in pairs: first those that are rotated together, then the others two by two, which have
/// the angle 0, and so has the padding of the number of pairs. Immutable, thread-safe.
class RopeTable {
 public:
  /// Positions of one lane table: a block's position is its base, a multiple of this, and a lane.
  static constexpr int kLanePositions = 16;
  static constexpr int kGroups = 4;

  /// `rope` is valid for keys of `dim` elements.
  RopeTable(const RopeParams& rope, std::int32_t dim);

  [[nodiscard]] const RopeParams& rope() const noexcept { return rope_; }
  /// Pairs of a row padded to kDimPadding, themselves padded to kDimPadding.
  [[nodiscard]] std::int32_t padded_pairs() const noexcept { return padded_pairs_; }
  /// The two elements of pair i < padded(dim) / 2.
  [[nodiscard]] std::pair<std::int32_t, std::int32_t> elements(std::int32_t i) const noexcept;

  /// Cosine and sine (padded_pairs) of the angles at a position from 0 to 2^31 - 1.
  void at(std::int64_t position, double* cosines, double* sines) const noexcept;
  void at(std::int64_t position, float* cosines, float* sines) const noexcept;

  /// (padded_pairs): by how much each pair turns from one position to the next, as a part of a whole turn, times 2^64.
  /// Multiplied by a position, whole turns drop out: below 2^31, the angle is within 1e-9 of what it should be.
  [[nodiscard]] const std::uint64_t* turns() const noexcept { return turns_.data(); }
  /// Pairs that are rotated, the first ones.
  [[nodiscard]] std::int32_t num_rotated() const noexcept { return num_rotated_; }

  /// (padded_pairs, 2, kLanePositions): cosines, then sines, of positions 0 to kLanePositions - 1.
  [[nodiscard]] const float* lanes() const noexcept { return lanes_.data(); }
  /// (kGroups, 2, padded_pairs): of positions 0, kLanePositions, 2 kLanePositions, ..
  [[nodiscard]] const float* groups() const noexcept { return groups_.data(); }

 private:
  static constexpr int kDigits = 4;
  static constexpr int kRadix = 256;

  template <typename T>
  void compose(std::int64_t position, T* cosines, T* sines) const noexcept;
  [[nodiscard]] const double* entry(int digit, std::int64_t value) const noexcept {
    return digits_.data() + (static_cast<std::ptrdiff_t>(digit) * kRadix + value) * 2 * num_rotated_;
  }

  RopeParams rope_;
  std::int32_t num_rotated_ = 0;  // pairs
  std::int32_t padded_pairs_ = 0;
  std::vector<std::uint64_t> turns_;
  std::vector<double> digits_;  // (kDigits, kRadix, 2, num_rotated)
  AlignedVector<float> lanes_, groups_;
};

}  // namespace tandem::cpu
