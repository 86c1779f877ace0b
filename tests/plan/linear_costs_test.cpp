#include "tools/plan/linear_costs.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

const WorkCounts kPriors = {{"call", 10}, {"row", 0.1}, {"scan", 0.01}};

TimedWork timed(double rows, double scanned, double time) {
  return {{{"call", 1}, {"row", rows}, {"scan", scanned}}, time};
}

double true_time(double rows, double scanned) { return 25 + 0.04 * rows + 0.02 * scanned; }

std::vector<TimedWork> samples(double noise) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> off(1 - noise, 1 + noise);
  std::vector<TimedWork> all;
  for (const double rows : {0.0, 100.0, 1000.0, 10'000.0})
    for (const double scanned : {0.0, 5000.0, 50'000.0})
      all.push_back(timed(rows, scanned, true_time(rows, scanned) * off(random)));
  return all;
}

TEST(LinearCosts, FindsTheCostsBehindExactTimes) {
  const LinearCosts costs(kPriors, samples(0));
  EXPECT_NEAR(costs.cost("call").value(), 25, 0.5);
  EXPECT_NEAR(costs.cost("row").value(), 0.04, 0.001);
  EXPECT_NEAR(costs.cost("scan").value(), 0.02, 0.0005);
  const double elsewhere = true_time(300'000, 1'000'000);
  EXPECT_NEAR(costs.time_of({{"call", 1}, {"row", 300'000}, {"scan", 1'000'000}}), elsewhere, 0.03 * elsewhere);
}

TEST(LinearCosts, RangesHoldForNineOfTenOfOtherTimes) {
  const LinearCosts costs(kPriors, samples(0.15));
  std::mt19937 random(4);
  std::uniform_real_distribution<double> off(0.85, 1.15);
  int inside = 0;
  constexpr int kTimes = 200;
  for (int i = 0; i < kTimes; ++i) {
    const double rows = 50.0 * i, scanned = 300.0 * i;
    const double time = true_time(rows, scanned) * off(random);
    const TimeRange range = costs.range_of({{"call", 1}, {"row", rows}, {"scan", scanned}});
    EXPECT_LE(range.low, range.value);
    EXPECT_LE(range.value, range.high);
    inside += range.low <= time && time <= range.high ? 1 : 0;
  }
  EXPECT_GE(inside, kTimes * 8 / 10);
  EXPECT_GT(costs.spread(), 0.05);
}

TEST(LinearCosts, CostsAreNeverNegative) {
  // Times that fall with the rows: the least squares alone would want a negative cost.
  const LinearCosts costs(kPriors, {timed(0, 0, 100), timed(1000, 0, 90), timed(2000, 0, 80)});
  EXPECT_GE(costs.cost("row").value(), 0);
  EXPECT_LT(costs.cost("row").value(), 0.02);  // far below its prior
  EXPECT_GT(costs.time_of({{"call", 1}}), 50);
}

TEST(LinearCosts, WhatNobodyMeasuredKeepsItsPrior) {
  const LinearCosts costs(kPriors, {timed(1000, 0, true_time(1000, 0)), timed(10'000, 0, true_time(10'000, 0))});
  EXPECT_NEAR(costs.time_of({{"scan", 1000}}), 10, 1e-6);
  EXPECT_FALSE(costs.cost("scan").has_value());
  EXPECT_NEAR(LinearCosts(kPriors, {}).time_of({{"call", 1}, {"row", 100}}), 20, 1e-9);
  EXPECT_FALSE(costs.cost("flight").has_value());
}

TEST(LinearCosts, EverySampleCountsByItsRelativeError) {
  // A thousand times the time does not count a thousand times as much.
  const LinearCosts costs(kPriors, {timed(1, 0, 25), timed(1, 0, 25), timed(1'000'000, 0, 40'000)});
  EXPECT_NEAR(costs.time_of({{"call", 1}, {"row", 1}}), 25, 1);
}

TEST(LinearCosts, RefusesWhatItCannotUse) {
  EXPECT_THROW(LinearCosts({{"row", 0}}, {}), Error);
  EXPECT_THROW(LinearCosts(kPriors, {{{{"flight", 1}}, 1}}), Error);
  EXPECT_THROW(LinearCosts(kPriors, {timed(1, 0, 0)}), Error);
  EXPECT_THROW(LinearCosts(kPriors, {timed(1, 0, std::nan(""))}), Error);
  EXPECT_THROW(LinearCosts(kPriors, {timed(-1, 0, 1)}), Error);
  EXPECT_THROW(static_cast<void>(LinearCosts(kPriors, {}).time_of({{"row", std::nan("")}})), Error);
}

}  // namespace
}  // namespace tandem::plan
