#include "cpu/codec/k_means.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace tandem::cpu {
namespace {

constexpr int kMostIterations = 200;  // far beyond what the points of a layer take

double midpoint(float a, float b) { return (static_cast<double>(a) + static_cast<double>(b)) / 2; }

}  // namespace

WeightedPoints::WeightedPoints(std::vector<float> points, std::span<const float> weights) : points_(std::move(points)) {
  const std::size_t count = points_.size();
  std::vector<float> sorted_weights(weights.begin(), weights.end());
  if (weights.empty()) {
    std::sort(points_.begin(), points_.end());
  } else {
    std::vector<std::pair<float, float>> pairs(count);
    for (std::size_t i = 0; i < count; ++i) pairs[i] = {points_[i], weights[i]};
    std::sort(pairs.begin(), pairs.end());
    for (std::size_t i = 0; i < count; ++i) std::tie(points_[i], sorted_weights[i]) = pairs[i];
  }
  for (auto* sums : {&sum_, &first_, &second_}) sums->assign(count + 1, 0.0);
  for (std::size_t i = 0; i < count; ++i) {
    const double w = weights.empty() ? 1.0 : static_cast<double>(sorted_weights[i]);
    const double x = points_[i];
    sum_[i + 1] = sum_[i] + w;
    first_[i + 1] = first_[i] + w * x;
    second_[i + 1] = second_[i] + w * x * x;
  }
}

std::size_t WeightedPoints::count_below(double bound) const {
  const auto end = std::upper_bound(points_.begin(), points_.end(), bound,
                                    [](double b, float x) { return b < static_cast<double>(x); });
  return static_cast<std::size_t>(end - points_.begin());
}

double WeightedPoints::error(std::span<const float> levels) const {
  double total = 0;
  std::size_t begin = 0;
  for (std::size_t j = 0; j < levels.size(); ++j) {
    const std::size_t end = j + 1 == levels.size() ? points_.size() : count_below(midpoint(levels[j], levels[j + 1]));
    const double level = levels[j];
    total += (second_[end] - second_[begin]) - 2 * level * (first_[end] - first_[begin]) +
             level * level * (sum_[end] - sum_[begin]);
    begin = end;
  }
  return std::max(total, 0.0);
}

void WeightedPoints::iterate(std::vector<float>& levels) const {
  for (int i = 0; i < kMostIterations; ++i) {
    std::vector<float> moved = levels;
    std::size_t begin = 0;
    for (std::size_t j = 0; j < levels.size(); ++j) {
      const std::size_t end = j + 1 == levels.size() ? points_.size() : count_below(midpoint(levels[j], levels[j + 1]));
      const double weight = sum_[end] - sum_[begin];
      // A level that no point is nearest to stays: it lies between the means of its neighbours.
      if (weight > 0) moved[j] = static_cast<float>((first_[end] - first_[begin]) / weight);
      begin = end;
    }
    std::sort(moved.begin(), moved.end());  // equal but for rounding
    if (moved == levels) return;
    levels = std::move(moved);
  }
}

std::vector<float> WeightedPoints::k_means(int count) const {
  if (points_.empty() || sum_.back() <= 0) return even_grid(-1.f, 1.f, count);
  const std::vector<float> grid = even_grid(points_.front(), points_.back(), count);
  std::vector<float> quantiles;
  for (int j = 0; j < count; ++j) {
    const double wanted = (j + 0.5) / count * sum_.back();
    const auto at = std::lower_bound(sum_.begin() + 1, sum_.end(), wanted) - sum_.begin() - 1;
    quantiles.push_back(points_[std::min(static_cast<std::size_t>(at), points_.size() - 1)]);
  }
  std::vector<float> best = grid;
  double least = error(grid);
  for (const auto& start : {grid, quantiles}) {
    auto levels = start;
    iterate(levels);
    const double reached = error(levels);
    if (reached >= least) continue;
    least = reached;
    best = std::move(levels);
  }
  return best;
}

std::vector<float> even_grid(float low, float high, int count) {
  std::vector<float> grid(static_cast<std::size_t>(count));
  for (int j = 0; j < count; ++j) {
    const double t = static_cast<double>(j) / (count - 1);
    grid[static_cast<std::size_t>(j)] =
        static_cast<float>((1 - t) * static_cast<double>(low) + t * static_cast<double>(high));
  }
  return grid;
}

}  // namespace tandem::cpu
