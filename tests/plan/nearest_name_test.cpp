#include "tools/plan/nearest_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::plan {
namespace {

using testing::ElementsAre;

TEST(NearestName, DistanceCountsLetters) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("v100-32", "v100-16"), 2u);
}

TEST(NearestName, DistanceIsSymmetricAndObeysTheTriangle) {
  const std::vector<std::string> names = {"", "h100", "h200", "a100-40", "xeon-8480+", "100h"};
  for (const auto& a : names)
    for (const auto& b : names) {
      EXPECT_EQ(edit_distance(a, b), edit_distance(b, a));
      for (const auto& c : names) EXPECT_LE(edit_distance(a, c), edit_distance(a, b) + edit_distance(b, c));
    }
}

TEST(NearestName, NearestFirstAndNoMoreThanAskedFor) {
  EXPECT_THAT(nearest_names("h10", {"a100-40", "h200", "h100"}, 2), ElementsAre("h100", "h200"));
  EXPECT_THAT(nearest_names("x", {}, 2), ElementsAre());
}

TEST(NearestName, OnlyWhatIsNear) {
  EXPECT_THAT(nearest_names("foo", {"l20", "t4", "h100"}), ElementsAre());
  EXPECT_THAT(nearest_names("t5", {"l20", "t4", "h100"}), ElementsAre("t4"));
  EXPECT_THAT(nearest_names("xeon", {"xeon-8480+", "h100"}), ElementsAre("xeon-8480+"));
  EXPECT_THAT(nearest_names("h100-80", {"xeon-8480+", "h100"}), ElementsAre("h100"));
  EXPECT_THAT(nearest_names("a100", {"h100", "a100-40", "a100-80"}, 2), ElementsAre("a100-40", "a100-80"));
  EXPECT_THAT(nearest_names("", {"h100"}), ElementsAre());
}

}  // namespace
}  // namespace tandem::plan
