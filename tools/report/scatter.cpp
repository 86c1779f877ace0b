#include "tools/report/scatter.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/labels.h"
#include "tools/report/plot.h"

namespace tandem::report {
namespace {

constexpr double kWidest = 540;
constexpr double kNear = 0.10;  // the bands, as shares of the measurement
constexpr double kFar = 0.25;

Range checked_values(const Scatter& chart) {
  Range range;
  for (const ScatterPoint& point : chart.points) {
    const std::string owner = fmt::format("point '{}'", point.label);
    for (const auto& [value, field] : {std::pair{point.measured, "measured"}, {point.predicted, "predicted"}}) {
      range.add(checked(value, chart.quantity, owner, field));
      TANDEM_CHECK(value >= 0, invalid_argument, owner, ": ", field, " is ", value, "; it must not be negative");
    }
    TANDEM_CHECK(point.group < std::max<std::size_t>(chart.groups.size(), 1), invalid_argument, owner, ": group is ",
                 point.group, "; allowed: below ", std::max<std::size_t>(chart.groups.size(), 1));
  }
  return range;
}

double deviation(const ScatterPoint& point) {
  if (point.measured == 0) return point.predicted == 0 ? 0 : kLargestValue;
  return std::abs(point.predicted / point.measured - 1);
}

std::string share_within(const Scatter& chart, double most) {
  const auto count = std::count_if(chart.points.begin(), chart.points.end(),
                                   [&](const ScatterPoint& point) { return deviation(point) <= most * (1 + 1e-9); });
  return fmt::format("within \u00b1{:.0f} %: {} of {}", 100 * most, count, chart.points.size());
}

std::vector<LegendEntry> legend_of(const Scatter& chart) {
  std::vector<LegendEntry> entries = {{share_within(chart, kNear), "near", 1}, {share_within(chart, kFar), "far", 1}};
  if (chart.groups.size() > 1)
    for (std::size_t i = 0; i < chart.groups.size(); ++i)
      entries.push_back({chart.groups[i], "dot " + series_class(i), static_cast<int>(i % 4)});
  return entries;
}

void draw_band(Svg& svg, const Plot& plot, double share, const char* classes) {
  const double low = plot.x.low();
  const double high = plot.x.high();
  const auto at = [&](double measured, double predicted) { return Point{plot.x(measured), plot.y(predicted)}; };
  svg.polygon({at(low, low), at(low, std::min(high, low * (1 + share))), at(std::max(low, high / (1 + share)), high),
               at(high, high), at(high, std::max(low, high * (1 - share))), at(std::min(high, low / (1 - share)), low)},
              classes);
}

void draw_points(Svg& svg, Labels& labels, const Plot& plot, const Scatter& chart) {
  std::vector<Point> places;
  for (const ScatterPoint& point : chart.points) {
    const Point at = {plot.x(point.measured), plot.y(point.predicted)};
    places.push_back(at);
    labels.block(Box{at.x - 6, at.y - 6, at.x + 6, at.y + 6});
    const double percent = 100 * (point.measured > 0 ? point.predicted / point.measured - 1 : 0);
    svg.mark(at, static_cast<int>(point.group % 4), 4.5, "dot " + series_class(point.group),
             fmt::format("{}: predicted {}, measured {} ({:+.3g} %)", point.label,
                         number_text(point.predicted, chart.quantity.numbers),
                         number_text(point.measured, chart.quantity.numbers), percent));
  }
  std::vector<std::size_t> order(chart.points.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return deviation(chart.points[a]) > deviation(chart.points[b]);
  });
  for (const std::size_t i : order) labels.draw(svg, places[i], chart.points[i].label, "small label");
}

}  // namespace

Svg draw(const Scatter& chart, double width) {
  check_width(width);
  width = std::min(width, kWidest);
  const Range range = checked_values(chart);
  const auto legend = legend_of(chart);
  Axis measured = chart.quantity;
  Axis predicted = chart.quantity;
  measured.label = "measured, " + chart.quantity.label;
  predicted.label = "predicted, " + chart.quantity.label;
  PlotFrame frame{.width = width, .top = draw_legend(nullptr, legend, 2, 0, width - 2) + 6};
  frame.height = width - 80;
  Plot plot = lay_out(frame, measured, range, predicted, range);
  frame.height = plot.area.width();  // square
  plot = lay_out(frame, measured, range, predicted, range);

  Svg svg(width, plot.height, chart.title);
  draw_axes(svg, plot, measured, predicted);
  draw_legend(&svg, legend, 2, plot.area.top - frame.top, width - 2);
  draw_band(svg, plot, kFar, "far");
  draw_band(svg, plot, kNear, "near");
  svg.line({plot.area.left, plot.area.bottom}, {plot.area.right, plot.area.top}, "diagonal");
  if (chart.points.empty()) draw_no_data(svg, plot.area);
  Labels labels(Box{plot.area.left + 1, plot.area.top, plot.area.right + 12, plot.area.bottom - 1});
  draw_points(svg, labels, plot, chart);
  return svg;
}

}  // namespace tandem::report
