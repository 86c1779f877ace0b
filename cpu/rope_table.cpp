#include "cpu/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cpu/row_layout.h"

namespace tandem::cpu {

RopeTable::RopeTable(const RopeParams& rope, std::int32_t dim) : rope_(rope) {
  const std::int32_t dims = rope.dims == 0 ? dim : rope.dims;
  num_rotated_ = rope.known() ? dims / 2 : 0;
  padded_pairs_ = padded(padded(dim) / 2);
  digits_.resize(static_cast<std::size_t>(kDigits) * kRadix * 2 * static_cast<std::size_t>(num_rotated_));
  double* target = digits_.data();
  // In long double: what a double frequency is off by, times 2^31, would be seen in fp32.
  std::vector<long double> frequencies;
  for (std::int32_t i = 0; i < num_rotated_; ++i) {
    const auto exponent = -2.0L * static_cast<long double>(i) / static_cast<long double>(dims);
    frequencies.push_back(std::pow(static_cast<long double>(rope.theta), exponent));
  }
  turns_.resize(static_cast<std::size_t>(padded_pairs_));
  for (std::size_t i = 0; i < frequencies.size(); ++i)  // frequencies are at most 1: less than a whole turn
    turns_[i] =
        static_cast<std::uint64_t>(std::ldexp(frequencies[i] / (2 * std::numbers::pi_v<long double>), 64) + 0.5L);
  for (int digit = 0; digit < kDigits; ++digit) {
    for (int value = 0; value < kRadix; ++value, target += 2 * num_rotated_) {
      const auto position = static_cast<long double>(static_cast<std::int64_t>(value) << (8 * digit));
      for (std::int32_t i = 0; i < num_rotated_; ++i) {
        const long double angle = position * frequencies[static_cast<std::size_t>(i)];
        target[i] = static_cast<double>(std::cos(angle));
        target[num_rotated_ + i] = static_cast<double>(std::sin(angle));
      }
    }
  }
  const auto pairs = static_cast<std::size_t>(padded_pairs_);
  std::vector<float> cosines(pairs), sines(pairs);
  lanes_.resize(pairs * 2 * kLanePositions);
  for (int lane = 0; lane < kLanePositions; ++lane) {
    at(lane, cosines.data(), sines.data());
    for (std::size_t i = 0; i < pairs; ++i) {
      lanes_[i * 2 * kLanePositions + static_cast<std::size_t>(lane)] = cosines[i];
      lanes_[(i * 2 + 1) * kLanePositions + static_cast<std::size_t>(lane)] = sines[i];
    }
  }
  groups_.resize(pairs * 2 * kGroups);
  for (int group = 0; group < kGroups; ++group) {
    float* row = groups_.data() + static_cast<std::ptrdiff_t>(group) * 2 * padded_pairs_;
    at(group * kLanePositions, row, row + padded_pairs_);
  }
}

std::pair<std::int32_t, std::int32_t> RopeTable::elements(std::int32_t i) const noexcept {
  if (i >= num_rotated_ || rope_.interleaved) return {2 * i, 2 * i + 1};
  return {i, i + num_rotated_};
}

template <typename T>
void RopeTable::compose(std::int64_t position, T* cosines, T* sines) const noexcept {
  const double* digit[kDigits];
  for (int d = 0; d < kDigits; ++d) digit[d] = entry(d, position >> (8 * d) & (kRadix - 1));
  for (std::int32_t i = 0; i < num_rotated_; ++i) {
    double c = digit[0][i], s = digit[0][num_rotated_ + i];
    for (int d = 1; d < kDigits; ++d) {
      const double cd = digit[d][i], sd = digit[d][num_rotated_ + i];
      const double turned = c * cd - s * sd;
      s = s * cd + c * sd;
      c = turned;
    }
    cosines[i] = static_cast<T>(c);
    sines[i] = static_cast<T>(s);
  }
  std::fill(cosines + num_rotated_, cosines + padded_pairs_, T(1));
  std::fill(sines + num_rotated_, sines + padded_pairs_, T(0));
}

void RopeTable::at(std::int64_t position, double* cosines, double* sines) const noexcept {
  compose(position, cosines, sines);
}

void RopeTable::at(std::int64_t position, float* cosines, float* sines) const noexcept {
  compose(position, cosines, sines);
}

}  // namespace tandem::cpu
