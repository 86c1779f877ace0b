#include <cmath>
#include <regex>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/report/sample_charts.h"
#include "tests/support/error_message.h"

namespace tandem::report {
namespace {

using ::testing::AllOf;
using testing::error_message;
using ::testing::HasSubstr;

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

struct Mark {
  double x = 0;
  double y = 0;
};

std::vector<Mark> circles(const std::string& markup) {
  static const std::regex kCircle("<circle cx=\"([-0-9.]+)\" cy=\"([-0-9.]+)\"");
  std::vector<Mark> marks;
  for (std::sregex_iterator it(markup.begin(), markup.end(), kCircle), end; it != end; ++it)
    marks.push_back({std::stod((*it)[1]), std::stod((*it)[2])});
  return marks;
}

/// Left, top, width and height of all rectangles of a class.
std::vector<Box> rects(const std::string& markup, const std::string& classes) {
  const std::regex pattern(
      "<rect x=\"([-0-9.]+)\" y=\"([-0-9.]+)\" width=\"([-0-9.]+)\" height=\"([-0-9.]+)\" class=\"" + classes);
  std::vector<Box> boxes;
  for (std::sregex_iterator it(markup.begin(), markup.end(), pattern), end; it != end; ++it) {
    const double left = std::stod((*it)[1]);
    const double top = std::stod((*it)[2]);
    boxes.push_back({left, top, left + std::stod((*it)[3]), top + std::stod((*it)[4])});
  }
  return boxes;
}

template <typename Chart>
std::string markup(const Chart& chart, double width = 720) {
  return draw(chart, width).markup();
}

TEST(ReportLineChart, MarksLieOnTheirScales) {
  const LineChart chart{.title = "",
                        .x = {"x", ScaleKind::log},
                        .y = {"y"},
                        .series = {{.name = "a", .points = {{1, 0}, {10, 5}, {100, 10}}}}};
  const auto marks = circles(markup(chart));
  ASSERT_EQ(marks.size(), 3u);
  EXPECT_NEAR(marks[1].x, (marks[0].x + marks[2].x) / 2, 0.02);  // a decade each
  EXPECT_NEAR(marks[1].y, (marks[0].y + marks[2].y) / 2, 0.02);
  EXPECT_GT(marks[0].y, marks[2].y);  // upwards
}

TEST(ReportLineChart, DrawsSeriesBandsAndNames) {
  const std::string picture = markup(sample_lines());
  EXPECT_EQ(count_of(picture, "<polyline points=\"") - count_of(picture, "class=\"leader"), 4u);
  EXPECT_EQ(count_of(picture, "class=\"band"), 3u);  // the prediction has no bounds
  EXPECT_EQ(count_of(picture, "dashed"), 1u);
  EXPECT_EQ(count_of(picture, "<title>"), 4u * 9u);
  for (const char* name : {"dense, host", "top-k", "LSH, 10 \u00d7 150", "predicted"})
    EXPECT_EQ(count_of(picture, std::string(">") + name + "</text>"), 1u) << name;
}

TEST(ReportLineChart, RefusesWhatItCannotShow) {
  LineChart chart{
      .title = "", .x = {"x"}, .y = {"y", ScaleKind::log}, .series = {{.name = "top-k", .points = {{1, 0}}}}};
  EXPECT_THAT(error_message([&] { markup(chart); }),
              AllOf(HasSubstr("series 'top-k': y is 0"), HasSubstr("logarithmic")));
  chart.series[0].points[0].y = std::nan("");
  EXPECT_THAT(error_message([&] { markup(chart); }), HasSubstr("series 'top-k': y is nan"));
  chart.series[0].points[0] = {.x = 1, .y = 5, .low = 6, .high = 7};
  EXPECT_THAT(error_message([&] { markup(chart); }), HasSubstr("y is 5; it must lie between low, which is 6"));
  EXPECT_THAT(error_message([&] { markup(sample_lines(), 100); }), HasSubstr("width is 100; allowed: 240 to 4000"));
  EXPECT_THAT(error_message([&] { markup(sample_lines(), std::nan("")); }), HasSubstr("width is nan"));
}

TEST(ReportBarChart, LengthsAreProportional) {
  const BarChart chart{.title = "", .value = {"GB/s"}, .bars = {{"a", 50}, {"b", 100, 90, 110}, {"c", 0}, {"d", -25}}};
  const std::string picture = markup(chart);
  const auto bars = rects(picture, "bar");
  ASSERT_EQ(bars.size(), 4u);
  EXPECT_NEAR(bars[1].width(), 2 * bars[0].width(), 0.05);
  EXPECT_NEAR(bars[2].width(), 0, 0.01);
  EXPECT_NEAR(bars[3].width(), bars[0].width() / 2, 0.05);
  EXPECT_NEAR(bars[3].right, bars[0].left, 0.05);
  EXPECT_LT(bars[0].bottom, bars[1].top);
  EXPECT_EQ(count_of(picture, "class=\"whisker\""), 3u);  // a line and two caps
  EXPECT_THAT(error_message([] {
                markup(BarChart{.title = "", .value = {"s", ScaleKind::log}, .bars = {{"idle", 0}}});
              }),
              HasSubstr("bar 'idle': value is 0; on a logarithmic axis"));
}

TEST(ReportHeatMap, HasACellForEachPairAndDarkensWithTheValue) {
  HeatMap map{.title = "",
              .x_label = "x",
              .y_label = "y",
              .x = {"a", "b", "c"},
              .y = {"p", "q"},
              .value = {"v"},
              .values = {0, 5, 10, 2.5, {}, 10}};
  const std::string picture = markup(map);
  EXPECT_EQ(count_of(picture, "class=\"absent\""), 1u);
  EXPECT_EQ(count_of(picture, "class=\"cell "), 5u);
  EXPECT_THAT(picture, HasSubstr("class=\"heat\" fill-opacity=\"0.06\"><title>p, a: 0</title>"));
  EXPECT_THAT(picture, HasSubstr("class=\"heat\" fill-opacity=\"0.53\"><title>p, b: 5.00</title>"));
  EXPECT_THAT(picture, HasSubstr("class=\"heat\"><title>q, c: 10.0</title>"));
  map.values.pop_back();
  EXPECT_THAT(error_message([&] { markup(map); }), HasSubstr("5 values for 3 x 2 cells"));
  map.values.emplace_back(std::nan(""));
  EXPECT_THAT(error_message([&] { markup(map); }), HasSubstr("cell ('c', 'q'): value is nan"));
  map.x.assign(30'000, "x");
  EXPECT_THAT(error_message([&] { markup(map); }), HasSubstr("30000 x 2 cells; allowed: up to 20000"));
}

TEST(ReportRoofline, RoofsRiseByOneAndKernelsLieOnTheirScales) {
  const Roofline chart{.title = "",
                       .bandwidths = {{"memory", 100, {}, {}}},
                       .peaks = {{"peak", 10'000}},
                       .kernels = {{"on the roof", 1, 100}, {"below", 10, 100}, {"ridge", 100, 10'000}}};
  const std::string picture = markup(chart);
  const auto marks = circles(picture);
  ASSERT_EQ(marks.size(), 3u);
  EXPECT_NEAR(marks[0].y, marks[1].y, 0.02);
  EXPECT_NEAR(marks[1].x - marks[0].x, marks[2].x - marks[1].x, 0.03);
  std::smatch roof;
  ASSERT_TRUE(std::regex_search(
      picture, roof, std::regex("<polyline points=\"([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+)\" class=\"line s0\"")));
  // The roof ends at the ridge, and the kernel on it lies on the line between its ends.
  EXPECT_NEAR(std::stod(roof[3]), marks[2].x, 0.02);
  EXPECT_NEAR(std::stod(roof[4]), marks[2].y, 0.02);
  const double share = (marks[0].x - std::stod(roof[1])) / (std::stod(roof[3]) - std::stod(roof[1]));
  EXPECT_NEAR(marks[0].y, std::stod(roof[2]) + share * (std::stod(roof[4]) - std::stod(roof[2])), 0.05);
}

TEST(ReportRoofline, NamesEveryKernelOfTheSample) {
  const std::string picture = markup(sample_roofline());
  for (const Kernel& kernel : sample_roofline().kernels)
    EXPECT_EQ(count_of(picture, ">" + kernel.name + "</text>"), 1u) << kernel.name;
  EXPECT_THAT(error_message([] {
                markup(Roofline{.title = "", .bandwidths = {}, .peaks = {{"none", 0}}, .kernels = {}});
              }),
              HasSubstr("peak 'none': gflop_per_s is 0"));
  EXPECT_THAT(error_message([] {
                markup(Roofline{.title = "", .bandwidths = {{"host", 5, 6, 7}}, .peaks = {}, .kernels = {}});
              }),
              HasSubstr("bandwidth 'host': gb_per_s is 5; it must lie between low, which is 6"));
  EXPECT_THAT(error_message([] {
                markup(Roofline{.title = "", .bandwidths = {}, .peaks = {}, .kernels = {{"k", -1, 5}}});
              }),
              HasSubstr("kernel 'k': flop_per_byte is -1"));
}

TEST(ReportTimeline, SpansLieOnTheTimeAndSimultaneousOnesBelowOneAnother) {
  const Timeline timeline{
      .title = "",
      .kinds = {},
      .lanes = {{"a", {{0, 100, "one", 0, ""}, {100, 300, "two", 0, ""}, {50, 150, "three", 0, ""}}}}};
  const auto spans = rects(markup(timeline), "span");
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_NEAR(spans[1].width(), 2 * spans[0].width(), 0.05);
  EXPECT_NEAR(spans[0].right, spans[1].left, 0.02);
  EXPECT_NEAR(spans[2].left, (spans[0].left + spans[0].right) / 2, 0.02);
  EXPECT_EQ(spans[0].top, spans[1].top);
  EXPECT_GT(spans[2].top, spans[0].bottom);
}

TEST(ReportTimeline, RefusesSpansThatCannotBe) {
  const auto with = [](Span span) { return Timeline{.title = "", .kinds = {"a"}, .lanes = {{"GPU", {span}}}}; };
  EXPECT_THAT(error_message([&] {
                markup(with({2, 1, "x", 0, ""}));
              }),
              HasSubstr("span 'x' of lane 'GPU': end_us is 1; it must be at least start_us, which is 2"));
  EXPECT_THAT(error_message([&] { markup(with({0, 1, "x", 1, ""})); }), HasSubstr("kind is 1; allowed: below 1"));
  EXPECT_THAT(error_message([&] { markup(with({std::nan(""), 1, "x", 0, ""})); }), HasSubstr("start_us is nan"));
}

TEST(ReportScatter, EqualValuesLieOnTheDiagonalAndBandsCount) {
  const Scatter chart{.title = "",
                      .quantity = {"ms", ScaleKind::log},
                      .groups = {},
                      .points = {{"a", 1, 1, 0}, {"b", 100, 100, 0}, {"c", 10, 12, 0}, {"d", 10, 7.4, 0}}};
  const std::string picture = markup(chart);
  EXPECT_THAT(picture, HasSubstr("within \u00b110 %: 2 of 4"));
  EXPECT_THAT(picture, HasSubstr("within \u00b125 %: 3 of 4"));
  const auto marks = circles(picture);
  ASSERT_EQ(marks.size(), 4u);
  EXPECT_NEAR(marks[1].x - marks[0].x, marks[0].y - marks[1].y, 0.05);  // square
  std::smatch diagonal;
  ASSERT_TRUE(std::regex_search(
      picture, diagonal,
      std::regex("x1=\"([0-9.]+)\" y1=\"([0-9.]+)\" x2=\"[0-9.]+\" y2=\"[0-9.]+\" class=\"diagonal\"")));
  EXPECT_NEAR(marks[1].x - std::stod(diagonal[1]), std::stod(diagonal[2]) - marks[1].y, 0.05);
  EXPECT_THAT(error_message([] {
                markup(Scatter{.title = "", .quantity = {"ms"}, .groups = {}, .points = {{"p", -1, 1, 0}}});
              }),
              HasSubstr("point 'p': measured is -1; it must not be negative"));
  EXPECT_THAT(error_message([] {
                markup(Scatter{.title = "", .quantity = {"ms"}, .groups = {}, .points = {{"p", 1, 1, 3}}});
              }),
              HasSubstr("group is 3; allowed: below 1"));
}

TEST(ReportCharts, SayWhereThereIsNoData) {
  EXPECT_THAT(markup(LineChart{}), HasSubstr(">no data</text>"));
  EXPECT_THAT(markup(BarChart{}), HasSubstr(">no data</text>"));
  EXPECT_THAT(markup(HeatMap{}), HasSubstr(">no data</text>"));
  EXPECT_THAT(markup(Roofline{}), HasSubstr(">no data</text>"));
  EXPECT_THAT(markup(Timeline{}), HasSubstr(">no data</text>"));
  EXPECT_THAT(markup(Scatter{}), HasSubstr(">no data</text>"));
  EXPECT_EQ(markup(sample_lines()).find("no data"), std::string::npos);
}

TEST(ReportCharts, DrawEverythingAtEveryWidth) {
  for (const double width : {240.0, 333.0, 4000.0}) {
    for (const std::string& picture :
         {markup(sample_lines(), width), markup(sample_bars(), width), markup(sample_heat(), width),
          markup(sample_roofline(), width), markup(sample_timeline(), width), markup(sample_scatter(), width)}) {
      EXPECT_EQ(picture.find("nan"), std::string::npos);
      EXPECT_EQ(picture.find("inf"), std::string::npos);
      EXPECT_EQ(picture.find("width=\"-"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tandem::report
