#include "tools/tandem/statistics.h"

#include <limits>

#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

TEST(Statistics, AreZeroOfNothing) {
  EXPECT_EQ(mean({}), 0);
  EXPECT_EQ(quantile({}, 0.5), 0);
  EXPECT_EQ(ratio(3, 0), 0);
  EXPECT_EQ(relative_error(nullptr, nullptr, 0), 0);
}

TEST(Statistics, MeanAndRatio) {
  EXPECT_EQ(mean({7}), 7);
  EXPECT_EQ(mean({1, 2, 6}), 3);
  EXPECT_EQ(ratio(3, 4), 0.75);
  EXPECT_EQ(ratio(-3, 4), -0.75);
}

TEST(Statistics, AQuantileIsTheSmallestValueThatEnoughDoNotExceed) {
  const std::vector<double> values = {40, 10, 30, 20};
  EXPECT_EQ(quantile(values, 0), 10);
  EXPECT_EQ(quantile(values, 0.25), 10);
  EXPECT_EQ(quantile(values, 0.26), 20);
  EXPECT_EQ(quantile(values, 0.5), 20);
  EXPECT_EQ(quantile(values, 0.95), 40);
  EXPECT_EQ(quantile(values, 1), 40);
  EXPECT_EQ(quantile({5}, 0.5), 5);
}

TEST(Statistics, TheRelativeErrorIsThatOfNorms) {
  const double exact[] = {3, 4};
  const float off_by_half[] = {4.5f, 6.f}, equal[] = {3.f, 4.f};
  EXPECT_DOUBLE_EQ(relative_error(off_by_half, exact, 2), 0.5);
  EXPECT_EQ(relative_error(equal, exact, 2), 0);
  const double zero[] = {0, 0};
  const float also_zero[] = {0.f, 0.f};
  EXPECT_EQ(relative_error(also_zero, zero, 2), 0);
  EXPECT_EQ(relative_error(equal, zero, 2), std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace tandem::cli
