#include "tools/llama/elementwise.h"

#include <cmath>

#include <gtest/gtest.h>

namespace tandem::llama {
namespace {

TEST(Elementwise, RmsNormMatchesItsDefinition) {
  for (const std::int64_t dim : {1, 7, 8, 9, 250}) {
    std::vector<float> x(static_cast<std::size_t>(2 * dim));
    std::vector<float> weight(static_cast<std::size_t>(dim));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i) + 1.f);
    for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = 1.f + 0.01f * static_cast<float>(i);
    std::vector<float> y(x.size());
    rms_norm(x.data(), weight.data(), 1e-5f, y.data(), 2, dim);
    for (std::int64_t row = 0; row < 2; ++row) {
      double squares = 0;
      for (std::int64_t i = 0; i < dim; ++i) squares += std::pow(double{x[static_cast<std::size_t>(row * dim + i)]}, 2);
      const double root = std::sqrt(squares / static_cast<double>(dim) + 1e-5);
      for (std::int64_t i = 0; i < dim; ++i) {
        const auto at = static_cast<std::size_t>(row * dim + i);
        EXPECT_NEAR(y[at], x[at] / root * weight[static_cast<std::size_t>(i)], 1e-5);
      }
    }
    rms_norm(x.data(), weight.data(), 1e-5f, x.data(), 2, dim);
    EXPECT_EQ(x, y);
  }
}

TEST(Elementwise, SwigluIsAccurateOverTheWholeRange) {
  std::vector<float> gate;
  for (float x = -80.f; x <= 80.f; x += 0.03125f) gate.push_back(x * 1.01f);
  const std::vector<float> input = gate;
  const std::vector<float> up(gate.size(), 2.f);
  swiglu(gate.data(), up.data(), std::ssize(gate));
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double x = input[i];
    const double expected = 2 * x / (1 + std::exp(-x));
    EXPECT_NEAR(gate[i], expected, 1e-6 * std::abs(expected) + (x < -60 ? 2e-24 : 0)) << x;
  }
  std::vector<float> extreme = {-1e30f, -200.f, 0.f, 200.f, 1e30f};
  swiglu(extreme.data(), up.data(), std::ssize(extreme));
  EXPECT_NEAR(extreme[0], 0.f, 2e-24);
  EXPECT_NEAR(extreme[1], 0.f, 2e-24);
  EXPECT_EQ(extreme[2], 0.f);
  EXPECT_EQ(extreme[3], 400.f);
  EXPECT_EQ(extreme[4], 2e30f);
}

/// <rope(q, m), rope(k, n)> depends on m - n alone, and position 0 rotates by nothing.
TEST(Elementwise, RopeEncodesRelativePositions) {
  const std::vector<float> q = {0.5f, -1.f, 2.f, 0.25f, 1.f, 3.f};
  const std::vector<float> k = {1.f, 0.75f, -0.5f, 2.f, 1.5f, -1.f};
  const auto at = [](std::vector<float> x, std::int64_t position) {
    RopeAngles angles;
    compute_angles(position, 1, 6, 10000.f, angles);
    apply_rope(angles, x.data(), 1, 1, 6);
    return x;
  };
  const auto product = [&](std::int64_t m, std::int64_t n) {
    const auto a = at(q, m);
    const auto b = at(k, n);
    float sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  EXPECT_EQ(at(q, 0), q);
  EXPECT_NEAR(product(7, 3), product(104, 100), 1e-4);
  EXPECT_GT(std::abs(product(7, 3) - product(8, 3)), 0.1);
}

TEST(Elementwise, RopeRotatesPairsHalfAHeadApart) {
  RopeAngles angles;
  compute_angles(0, 2, 4, 100.f, angles);
  std::vector<float> x(16, 0.f);  // 2 tokens, 2 heads
  x[12] = 1.f;                    // token 1, head 1, element 0
  x[9] = 1.f;                     // token 1, head 0, element 1
  apply_rope(angles, x.data(), 2, 2, 4);
  EXPECT_NEAR(x[12], std::cos(1.f), 1e-6);
  EXPECT_NEAR(x[14], std::sin(1.f), 1e-6);
  EXPECT_NEAR(x[9], std::cos(0.1f), 1e-6);
  EXPECT_NEAR(x[11], std::sin(0.1f), 1e-6);
}

TEST(Elementwise, RoundsToHalfPrecision) {
  std::vector<float> x = {1.f, 1.0001f, -2049.f};
  round_to_f16(x.data(), 3);
  EXPECT_EQ(x, (std::vector<float>{1.f, 1.f, -2048.f}));
}

}  // namespace
}  // namespace tandem::llama
