#include "tools/report/labels.h"

#include <algorithm>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::report {
namespace {

using ::testing::ElementsAre;

TEST(ReportLabels, SpreadLeavesWhatIsFarApart) {
  EXPECT_THAT(spread({}, 10, 0, 100), ElementsAre());
  EXPECT_THAT(spread({50, 20, 80}, 10, 0, 100), ElementsAre(50, 20, 80));
  EXPECT_THAT(spread({50, 50}, 10, 0, 100), ElementsAre(45, 55));
  EXPECT_THAT(spread({-5, 104}, 10, 0, 100), ElementsAre(0, 100));
}

TEST(ReportLabels, SpreadKeepsOrderGapAndBounds) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> place(-20, 120);
  for (std::size_t count = 1; count <= 11; ++count)
    for (int trial = 0; trial < 100; ++trial) {
      std::vector<double> wanted(count);
      std::generate(wanted.begin(), wanted.end(), [&] { return place(random); });
      const auto placed = spread(wanted, 10, 0, 100);
      for (std::size_t i = 0; i < count; ++i) {
        EXPECT_GE(placed[i], -1e-9);
        EXPECT_LE(placed[i], 100 + 1e-9);
        for (std::size_t j = 0; j < count; ++j)
          if (wanted[i] < wanted[j]) {
            EXPECT_LE(placed[i] + 10, placed[j] + 1e-9);
          }
      }
    }
}

TEST(ReportLabels, GoBesideTheirMarkAndNeverOnOneAnother) {
  Svg svg(400, 300, "");
  Labels labels(Box{0, 0, 400, 300});
  EXPECT_TRUE(labels.is_free(Box{205, 140, 240, 160}));
  labels.block(Box{194, 144, 206, 156});
  EXPECT_TRUE(labels.draw(svg, {200, 150}, "first", "label"));
  EXPECT_FALSE(labels.is_free(Box{210, 145, 215, 155}));  // right of the mark
  int drawn = 1;
  while (labels.draw(svg, {200, 150}, "another", "label")) ++drawn;
  EXPECT_GE(drawn, 4);
  EXPECT_LT(drawn, 100);  // until there is no room
}

TEST(ReportLabels, StayInsideTheirBounds) {
  Svg svg(400, 300, "");
  Labels labels(Box{0, 0, 60, 20});
  EXPECT_FALSE(labels.draw(svg, {500, 500}, "far outside", "label"));
  EXPECT_EQ(svg.markup().find("far outside"), std::string::npos);
}

TEST(ReportLabels, LegendsBreakIntoRows) {
  const std::vector<LegendEntry> entries(6, {"a name of some length", "dot s0", 0});
  const double one_row = draw_legend(nullptr, {entries[0]}, 0, 0, 700);
  EXPECT_EQ(draw_legend(nullptr, {}, 0, 0, 700), 0);
  EXPECT_GT(draw_legend(nullptr, entries, 0, 0, 700), one_row);
  EXPECT_EQ(draw_legend(nullptr, entries, 0, 0, 150), 6 * one_row);
}

}  // namespace
}  // namespace tandem::report
