#include "tools/report/line_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/labels.h"
#include "tools/report/plot.h"
#include "tools/report/text.h"

namespace tandem::report {
namespace {

constexpr double kNameGap = 10;        // between the end of a line and its name
constexpr double kMostForNames = 0.3;  // of the width

std::string owner_of(const LineSeries& series) { return fmt::format("series '{}'", series.name); }

void add(const LineSeries& series, const LineChart& chart, Range& xs, Range& ys) {
  const std::string owner = owner_of(series);
  for (const LinePoint& point : series.points) {
    xs.add(checked(point.x, chart.x, owner, "x"));
    ys.add(checked(point.y, chart.y, owner, "y"));
    const double low = checked(point.low.value_or(point.y), chart.y, owner, "low");
    const double high = checked(point.high.value_or(point.y), chart.y, owner, "high");
    TANDEM_CHECK(low <= point.y && point.y <= high, invalid_argument, owner, ": y is ", point.y,
                 "; it must lie between low, which is ", low, ", and high, which is ", high);
    ys.add(low);
    ys.add(high);
  }
}

std::vector<LinePoint> in_order(std::vector<LinePoint> points) {
  std::stable_sort(points.begin(), points.end(), [](const LinePoint& a, const LinePoint& b) { return a.x < b.x; });
  return points;
}

void draw_band(Svg& svg, const Plot& plot, const std::vector<LinePoint>& points, const std::string& colour) {
  if (points.size() < 2) return;
  std::vector<Point> outline;
  for (const LinePoint& point : points) {
    if (!point.low || !point.high) return;
    outline.push_back({plot.x(point.x), plot.y(*point.high)});
  }
  for (auto point = points.rbegin(); point != points.rend(); ++point)
    outline.push_back({plot.x(point->x), plot.y(*point->low)});
  svg.polygon(outline, "band " + colour);
}

std::string tooltip_of(const LineSeries& series, const LinePoint& point, const LineChart& chart) {
  std::string text = fmt::format("{}: {} at {}", series.name, number_text(point.y, chart.y.numbers),
                                 number_text(point.x, chart.x.numbers));
  if (point.low && point.high)
    text += fmt::format(" ({}\u2013{})", number_text(*point.low, chart.y.numbers),
                        number_text(*point.high, chart.y.numbers));
  return text;
}

void draw_series(Svg& svg, const Plot& plot, const LineChart& chart, std::size_t index) {
  const LineSeries& series = chart.series[index];
  const std::string colour = series_class(index);
  std::vector<Point> line;
  const auto points = in_order(series.points);
  for (const LinePoint& point : points) line.push_back({plot.x(point.x), plot.y(point.y)});
  if (line.size() > 1) svg.polyline(line, (series.dashed ? "line dashed " : "line ") + colour);
  const double spacing = plot.area.width() / static_cast<double>(std::max<std::size_t>(points.size(), 1));
  const double radius = spacing > 12 || points.size() < 2 ? 4 : 2;  // marks of dense series would hide the line
  for (std::size_t i = 0; i < points.size(); ++i)
    svg.mark(line[i], static_cast<int>(index % 4), radius, "dot " + colour, tooltip_of(series, points[i], chart));
}

/// Names right of the area at the height where each line ends, moved apart.
void draw_names(Svg& svg, const Plot& plot, const LineChart& chart, double room) {
  std::vector<std::size_t> named;
  std::vector<double> wanted;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    if (chart.series[i].points.empty()) continue;
    named.push_back(i);
    wanted.push_back(plot.y(in_order(chart.series[i].points).back().y));
  }
  const auto placed = spread(wanted, kLine, plot.area.top, plot.area.bottom);
  for (std::size_t i = 0; i < named.size(); ++i) {
    const LineSeries& series = chart.series[named[i]];
    const Point end = {plot.x(in_order(series.points).back().x), wanted[i]};
    const double x = plot.area.right + kNameGap;
    if (std::abs(placed[i] - end.y) > 4 || end.x < plot.area.right - 1)
      svg.polyline({{end.x + 6, end.y}, {x - 2, placed[i]}}, "leader " + series_class(named[i]));
    svg.text({x, placed[i] + 0.36 * kLabelSize}, elided(series.name, kLabelSize, room),
             "named " + series_class(named[i]));
  }
}

}  // namespace

Svg draw(const LineChart& chart, double width) {
  check_width(width);
  Range xs;
  Range ys;
  double longest = 0;
  std::vector<LegendEntry> legend;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    add(chart.series[i], chart, xs, ys);
    longest = std::max(longest, text_width(chart.series[i].name, kLabelSize));
    legend.push_back({chart.series[i].name, "dot " + series_class(i), static_cast<int>(i % 4)});
  }
  const bool beside = longest + kNameGap + 4 <= kMostForNames * width;
  PlotFrame frame{.width = width, .tight_x = true};
  // Names beside the area need a line each.
  frame.height = std::max(width < 500 ? 220.0 : 300.0, beside ? kLine * static_cast<double>(chart.series.size()) : 0.0);
  frame.right = beside ? longest + kNameGap + 4 : 0;
  frame.top = beside ? 0 : draw_legend(nullptr, legend, 2, 0, width - 2) + 6;
  const Plot plot = lay_out(frame, chart.x, xs, chart.y, ys);

  Svg svg(width, plot.height, chart.title);
  draw_axes(svg, plot, chart.x, chart.y);
  if (!beside) draw_legend(&svg, legend, 2, plot.area.top - frame.top, width - 2);
  for (std::size_t i = 0; i < chart.series.size(); ++i)
    draw_band(svg, plot, in_order(chart.series[i].points), series_class(i));
  for (std::size_t i = 0; i < chart.series.size(); ++i) draw_series(svg, plot, chart, i);
  if (beside) draw_names(svg, plot, chart, longest + 2);
  if (xs.empty()) draw_no_data(svg, plot.area);
  return svg;
}

}  // namespace tandem::report
