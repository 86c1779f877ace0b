#include "tools/tandem/gathered_shares.h"

#include <cmath>

#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

TEST(GatheredShares, FollowAPowerOfTheContextBetweenThoseThatWereSeen) {
  GatheredShares shares;
  shares.add(4096, 0, 0.4);
  shares.add(16384, 0, 0.1);
  const auto between = shares.at(8192);
  ASSERT_TRUE(between);
  EXPECT_NEAR(between->value, 0.2, 1e-12);  // as many rows at each
  EXPECT_EQ(between->low, 0.1);
  EXPECT_EQ(between->high, 0.4);
  EXPECT_NEAR(shares.at(4096)->value, 0.4, 1e-12);
  EXPECT_NEAR(shares.at(16384)->value, 0.1, 1e-12);
}

TEST(GatheredShares, OfOneContextAreAveragedAndKeepTheirBounds) {
  GatheredShares shares;
  shares.add(4096, 0, 0.2);
  shares.add(4096, 0, 0.05);
  const auto at = shares.at(4096);
  ASSERT_TRUE(at);
  EXPECT_NEAR(at->value, 0.1, 1e-12);
  EXPECT_EQ(at->low, 0.05);
  EXPECT_EQ(at->high, 0.2);
}

TEST(GatheredShares, AreUnknownBeyondWhatWasSeen) {
  GatheredShares shares;
  EXPECT_FALSE(shares.at(4096));
  shares.add(4096, 0, 0.4);
  shares.add(16384, 0, 0);  // nothing gathered has no logarithm, and is no fault
  EXPECT_FALSE(shares.at(4095));
  EXPECT_FALSE(shares.at(16385));
  EXPECT_GT(shares.at(8192)->value, 0);
}

TEST(GatheredShares, OfHeadsThatWantDifferentRowsAreUnited) {
  GatheredShares shares;
  EXPECT_EQ(shares.united(0.05), 0.05);
  for (const double budget : {0.02, 0.2}) shares.add(4096, budget, 1 - std::pow(1 - budget, 3));
  EXPECT_NEAR(shares.united(0.05), 1 - std::pow(0.95, 3), 1e-12);
  shares.add(4096, 1, 1);  // every row: says nothing about how heads differ
  EXPECT_NEAR(shares.united(0.05), 1 - std::pow(0.95, 3), 1e-12);
}

}  // namespace
}  // namespace tandem::cli
