// Joining what was sampled to what is exact: weights, calibration, spread and the error that follows from it.
#include "lsh/estimate.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::lsh {
namespace {

constexpr std::int64_t kDim = 3;

/// One query vector's partial and spread, which own their numbers.
struct Vector {
  std::vector<float> out;
  float lse;
  float weight = 0, square = 0;
  std::vector<float> value = std::vector<float>(kDim, 0.f);

  PartialAttention partial() { return {out.data(), &lse, 1, kDim}; }
  cpu::SampleSpread spread() { return {&weight, value.data(), &square}; }
};

/// Attention over two disjoint sets of keys in double, given each set's out and lse.
struct Joined {
  double out[kDim];
  double lse;
  double share;  // of b
};
Joined joined(const Vector& a, const Vector& b, double log_factor) {
  const double mass_a = std::exp(static_cast<double>(a.lse));
  const double mass_b = std::exp(static_cast<double>(b.lse) + log_factor);
  Joined both{{}, std::log(mass_a + mass_b), mass_b / (mass_a + mass_b)};
  for (std::size_t d = 0; d < kDim; ++d) both.out[d] = (mass_a * a.out[d] + mass_b * b.out[d]) / (mass_a + mass_b);
  return both;
}

TEST(JoinSampled, WeighsTheSampledPartByItsCalibratedMassAndTheSpreadByTheSquareOfItsShare) {
  constexpr float kValue[] = {0.1f, -0.2f, 0.05f};
  for (const float calibration : {0.f, -0.3f, 0.25f}) {
    for (const float lse : {-4.f, 0.f, 3.f}) {
      Vector exact{{1.f, -2.f, 0.5f}, 0.7f};
      Vector sampled{{-1.f, 0.25f, 3.f}, lse, 0.04f, 0.6f, {kValue[0], kValue[1], kValue[2]}};
      const Joined expected = joined(exact, sampled, calibration);
      cpu::Selection selection;
      if (calibration != 0.f) selection.log_calibration.push_back(calibration);
      join_sampled(selection, exact.partial(), sampled.partial(), sampled.spread());
      EXPECT_NEAR(exact.lse, expected.lse, 1e-6);
      const double unit = expected.share * expected.share;
      EXPECT_NEAR(sampled.weight, 0.04 * unit, 1e-6 * unit);
      EXPECT_NEAR(sampled.square, 0.6 * unit, 1e-5 * unit);
      for (std::size_t d = 0; d < kDim; ++d) {
        EXPECT_NEAR(exact.out[d], expected.out[d], 1e-6);
        EXPECT_NEAR(sampled.value[d], kValue[d] * unit, 1e-6 * unit);
      }
    }
  }
}

TEST(JoinSampled, NothingDrawnLeavesWhatIsExact) {
  Vector exact{{1.f, -2.f, 0.5f}, 0.7f};
  Vector nothing{{0.f, 0.f, 0.f}, -std::numeric_limits<float>::infinity()};
  join_sampled({}, exact.partial(), nothing.partial(), nothing.spread());
  EXPECT_EQ(exact.out, (std::vector{1.f, -2.f, 0.5f}));
  EXPECT_EQ(exact.lse, 0.7f);
}

/// The squared error around any vector is a quadratic form of the spread: that of one row drawn with probability pi.
TEST(OutError, IsTheDistanceOfTheDrawnRowsFromTheOutputTimesTheirShare) {
  const float value[] = {2.f, -1.f, 0.5f};
  const float out[] = {0.5f, 0.25f, -1.f};
  const float b = 0.09f;
  float spread_value[kDim];
  float square = 0;
  double distance = 0;
  for (std::size_t d = 0; d < kDim; ++d) {
    spread_value[d] = b * value[d];
    square += b * value[d] * value[d];
    distance += (static_cast<double>(value[d]) - out[d]) * (static_cast<double>(value[d]) - out[d]);
  }
  EXPECT_NEAR(out_error(b, spread_value, square, 1.0, out, kDim), std::sqrt(b * distance), 1e-6);
  EXPECT_NEAR(out_error(b, spread_value, square, 0.5, out, kDim), 0.5 * std::sqrt(b * distance), 1e-6);
}

}  // namespace
}  // namespace tandem::lsh
