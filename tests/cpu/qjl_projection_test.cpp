#include "cpu/codec/qjl_projection.h"

#include <cmath>

#include <gtest/gtest.h>

#include "cpu/row_layout.h"
#include "tests/support/moments.h"

namespace tandem::cpu {
namespace {

constexpr int kColumns = 320;

class Projection : public ::testing::TestWithParam<int /*head_dim*/> {};

INSTANTIATE_TEST_SUITE_P(Qjl, Projection, ::testing::Values(1, 16, 64, 80, 96, 100, 128, 256));

TEST_P(Projection, OrthogonalBlocksAreOrthogonalAndOfLengthSqrtD) {
  const int dim = GetParam();
  const auto s = qjl_projection(3, dim, kColumns, true);
  const auto dot = [&](int a, int b) {
    double sum = 0;
    for (int c = 0; c < dim; ++c)
      sum += static_cast<double>((*s)[static_cast<std::size_t>(c * kColumns + a)]) *
             (*s)[static_cast<std::size_t>(c * kColumns + b)];
    return sum;
  };
  for (int a = 0; a < kColumns; a += 3) {
    EXPECT_NEAR(dot(a, a), dim, 1e-4 * dim);
    for (int b = a / dim * dim; b < a; b += 5) EXPECT_NEAR(dot(a, b), 0, 1e-4 * dim) << a << ", " << b;
  }
}

TEST_P(Projection, PaddingIsZero) {
  for (const bool orthogonal : {false, true}) {
    const auto s = qjl_projection(3, GetParam(), kColumns, orthogonal);
    ASSERT_EQ(s->size(), static_cast<std::size_t>(padded(GetParam()) * kColumns));
    for (std::size_t i = static_cast<std::size_t>(GetParam() * kColumns); i < s->size(); ++i) EXPECT_EQ((*s)[i], 0.f);
  }
}

TEST_P(Projection, FirstColumnsDoNotDependOnHowManyFollow) {
  for (const bool orthogonal : {false, true}) {
    const auto wide = qjl_projection(3, GetParam(), kColumns, orthogonal);
    const auto narrow = qjl_projection(3, GetParam(), 64, orthogonal);
    for (std::size_t c = 0; c < static_cast<std::size_t>(GetParam()); ++c) {
      for (std::size_t j = 0; j < 64; ++j) ASSERT_EQ((*wide)[c * kColumns + j], (*narrow)[c * 64 + j]);
    }
  }
}

TEST(QjlProjection, GaussianEntriesHaveTheMomentsOfTheNormalDistribution) {
  const auto s = qjl_projection(4, 256, 1024, false);
  testing::Moments entries, fourth;
  for (const float x : *s) entries.add(x), fourth.add(std::pow(x, 4));
  EXPECT_NEAR(entries.mean(), 0, 4 * entries.standard_error());
  EXPECT_NEAR(entries.variance(), 1, 4 * std::sqrt(2.0 / entries.count));
  EXPECT_NEAR(fourth.mean(), 3, 4 * fourth.standard_error());
}

TEST(QjlProjection, IsAFunctionOfItsArguments) {
  const auto first = *qjl_projection(5, 64, 128, true);  // a copy: nobody keeps the original
  EXPECT_EQ(*qjl_projection(5, 64, 128, true), first);
  EXPECT_NE(*qjl_projection(6, 64, 128, true), first);
  EXPECT_NE(*qjl_projection(5, 64, 128, false), first);
}

TEST(QjlProjection, IsSharedWhileInUse) {
  const auto first = qjl_projection(5, 64, 128, true);
  EXPECT_EQ(qjl_projection(5, 64, 128, true), first);
  EXPECT_NE(qjl_projection(5, 64, 192, true), first);
}

TEST(QjlBias, IsTheRatioOfGammaFunctions) {
  for (const int dim : {1, 2, 3, 16, 64, 80, 127, 128, 256}) {
    const double log_ratio = std::lgamma(dim / 2.0) - std::lgamma((dim + 1) / 2.0);
    EXPECT_NEAR(qjl_bias(dim, true), std::sqrt(dim / 2.0) * std::exp(log_ratio), 1e-12) << dim;
    EXPECT_EQ(qjl_bias(dim, false), 1.0);
  }
  EXPECT_NEAR(qjl_bias(128, true), 1.001955, 5e-7);
}

}  // namespace
}  // namespace tandem::cpu
