// Levels for weighted points of the line: never worse than an even grid, and right where the answer is known.
#include "cpu/codec/k_means.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "runtime/base/random.h"

namespace tandem::cpu {
namespace {

double naive_error(const std::vector<float>& points, const std::vector<float>& weights,
                   const std::vector<float>& levels) {
  double total = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    double least = INFINITY;
    for (const float level : levels) least = std::min(least, std::pow(static_cast<double>(points[i]) - level, 2));
    total += (weights.empty() ? 1.0 : static_cast<double>(weights[i])) * least;
  }
  return total;
}

enum class Shape { normal, uniform, heavy_tailed, two_humps, few_values, one_value };

std::vector<float> points_of(Shape shape, int count) {
  CounterRandom random(5, static_cast<std::uint64_t>(shape));
  std::vector<float> points;
  for (int i = 0; i < count; ++i) {
    const double z = random.normal(), u = random.uniform();
    points.push_back(static_cast<float>(shape == Shape::normal         ? z
                                        : shape == Shape::uniform      ? 2 * u - 1
                                        : shape == Shape::heavy_tailed ? z * z * z
                                        : shape == Shape::two_humps    ? 0.1 * z + (u < 0.3 ? -1 : 1)
                                        : shape == Shape::few_values   ? std::floor(3 * u)
                                                                       : 0.25));
  }
  return points;
}

class KMeans : public ::testing::TestWithParam<std::tuple<Shape, int /*levels*/>> {};
INSTANTIATE_TEST_SUITE_P(Shapes, KMeans,
                         ::testing::Combine(::testing::Values(Shape::normal, Shape::uniform, Shape::heavy_tailed,
                                                              Shape::two_humps, Shape::few_values, Shape::one_value),
                                            ::testing::Values(4, 8, 16)));

TEST_P(KMeans, LevelsAscendAndBeatTheGrid) {
  const auto [shape, count] = GetParam();
  for (const int size : {1, 2, 7, 3000}) {
    const auto points = points_of(shape, size);
    std::vector<float> weights;
    for (int i = 0; i < size; ++i) weights.push_back(static_cast<float>(1 + i % 5));
    for (const auto& w : {std::vector<float>{}, weights}) {
      const WeightedPoints weighted(points, w);
      const auto levels = weighted.k_means(count);
      ASSERT_EQ(levels.size(), static_cast<std::size_t>(count));
      EXPECT_TRUE(std::is_sorted(levels.begin(), levels.end()));
      const auto [low, high] = std::minmax_element(points.begin(), points.end());
      EXPECT_GE(levels.front(), *low);
      EXPECT_LE(levels.back(), *high);
      const double error = naive_error(points, w, levels);
      EXPECT_LE(error, naive_error(points, w, even_grid(*low, *high, count)) + 1e-9);
      EXPECT_NEAR(weighted.error(levels), error, 1e-6 * (1 + error) + 1e-9);
      EXPECT_EQ(WeightedPoints(points, w).k_means(count), levels);
    }
  }
}

TEST(KMeansLevels, BeatTheGridByFarWherePointsAreNormal) {
  const auto points = points_of(Shape::normal, 3000);
  const WeightedPoints weighted(points);
  const auto [low, high] = std::minmax_element(points.begin(), points.end());
  EXPECT_LT(weighted.error(weighted.k_means(8)), 0.6 * weighted.error(even_grid(*low, *high, 8)));
}

TEST(KMeansLevels, FindSeparateClusters) {
  std::vector<float> points;
  for (const float centre : {-3.f, -1.f, 0.5f, 4.f})
    for (const float offset : {-0.125f, 0.f, 0.125f}) points.push_back(centre + offset);
  EXPECT_EQ(WeightedPoints(points).k_means(4), (std::vector<float>{-3.f, -1.f, 0.5f, 4.f}));
}

TEST(KMeansLevels, AWeightCountsAsSoManyPoints) {
  const auto once = points_of(Shape::normal, 200);
  std::vector<float> weights, repeated;
  for (std::size_t i = 0; i < once.size(); ++i) {
    weights.push_back(static_cast<float>(i % 4));
    repeated.insert(repeated.end(), i % 4, once[i]);
  }
  const auto weighted = WeightedPoints(once, weights), plain = WeightedPoints(repeated);
  for (const int count : {4, 8}) {
    const auto levels = weighted.k_means(count);
    EXPECT_NEAR(weighted.error(levels), plain.error(levels), 1e-9);
    EXPECT_NEAR(plain.error(levels), plain.error(plain.k_means(count)), 0.1 * plain.error(levels));
  }
}

TEST(KMeansLevels, WithoutPointsOrWeightAreTheGrid) {
  const std::vector<float> grid{-1.f, -1.f / 3, 1.f / 3, 1.f};
  for (const auto& levels :
       {WeightedPoints({}).k_means(4), WeightedPoints({0.5f, 0.25f}, std::vector<float>{0.f, 0.f}).k_means(4)}) {
    ASSERT_EQ(levels.size(), 4u);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(levels[i], grid[i]);
  }
}

}  // namespace
}  // namespace tandem::cpu
