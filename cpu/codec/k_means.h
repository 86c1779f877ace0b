#pragma once

#include <span>
#include <vector>

namespace tandem::cpu {

/// Points of the line with weights, and the levels that stand for them with least squared error. Deterministic: a
/// function of the multiset of (point, weight). Thread-safe once constructed.
class WeightedPoints {
 public:
  /// `weights` >= 0, one for each point; empty: all 1. Points are finite.
  explicit WeightedPoints(std::vector<float> points, std::span<const float> weights = {});

  /// Sum over points of weight * (point - nearest level)^2; `levels` ascending, not empty.
  [[nodiscard]] double error(std::span<const float> levels) const;

  /// `count` >= 2 ascending levels by Lloyd's iteration from two starts, the points' quantiles and the even grid over
  /// their range: of the two results the one with the smaller error, which so is at most that of the grid. Without
  /// points, or weight, the even grid over [-1, 1]. Source: KVQuant, arXiv:2401.18079, section 3.3, for the use;
  /// Lloyd 1982 for the iteration.
  [[nodiscard]] std::vector<float> k_means(int count) const;

 private:
  /// Points up to `bound`, as an index into the sums.
  [[nodiscard]] std::size_t count_below(double bound) const;
  void iterate(std::vector<float>& levels) const;

  std::vector<float> points_;                 // ascending
  std::vector<double> sum_, first_, second_;  // of w, w x and w x^2 of the first i points
};

/// `count` >= 2 values from `low` to `high` at equal distances.
std::vector<float> even_grid(float low, float high, int count);

}  // namespace tandem::cpu
