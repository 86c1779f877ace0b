#include "tools/plan/least_squares.h"

#include <cmath>

#include <gtest/gtest.h>

namespace tandem::plan {
namespace {

TEST(LeastSquares, FindsWhatMadeTheData) {
  const auto residuals = [](const std::vector<double>& p) {
    std::vector<double> errors;
    for (const double x : {1.0, 2.0, 4.0, 8.0}) errors.push_back(p[0] + p[1] / x - (3 + 5 / x));
    return errors;
  };
  const std::vector<double> found = least_squares(residuals, {1, 100});
  EXPECT_NEAR(found[0], 3, 1e-4);
  EXPECT_NEAR(found[1], 5, 1e-4);
}

TEST(LeastSquares, NoisyDataGetTheMean) {
  const auto residuals = [](const std::vector<double>& p) { return std::vector<double>{p[0] - 2, p[0] - 4}; };
  EXPECT_NEAR(least_squares(residuals, {10})[0], 3, 1e-5);
}

TEST(LeastSquares, AParameterThatMattersNotStaysWhereItWas) {
  const auto residuals = [](const std::vector<double>& p) { return std::vector<double>{p[0] - 2}; };
  const std::vector<double> found = least_squares(residuals, {1, 7});
  EXPECT_NEAR(found[0], 2, 1e-5);
  EXPECT_NEAR(found[1], 7, 1e-9);
}

TEST(LeastSquares, NeverEndsWorseThanItBegan) {
  const auto residuals = [](const std::vector<double>& p) {  // no value where the logarithm has none
    return std::vector<double>{std::log(p[0] - 0.9), p[0]};
  };
  const double before = sum_of_squares(residuals({1.0}));
  EXPECT_LE(sum_of_squares(residuals(least_squares(residuals, {1.0}))), before);
}

}  // namespace
}  // namespace tandem::plan
