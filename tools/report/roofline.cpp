#include "tools/report/roofline.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/labels.h"
#include "tools/report/plot.h"
#include "tools/report/text.h"

namespace tandem::report {
namespace {

const Axis kIntensity{.label = "FLOP per byte", .kind = ScaleKind::log};
const Axis kRate{.label = "GFLOP/s", .kind = ScaleKind::log};

/// Values beyond these have ridges and roofs that no double holds.
constexpr double kLeast = 1e-100;
constexpr double kMost = 1e100;

double positive(double value, const std::string& owner, const char* field) {
  checked(value, kRate, owner, field);
  TANDEM_CHECK(value >= kLeast && value <= kMost, invalid_argument, owner, ": ", field, " is ", value,
               "; allowed: 1e-100 to 1e100");
  return value;
}

struct Extent {
  Range x, y;
  double top = 0;  ///< where the roofs end: the highest peak, or 0 without one
};

Extent extent_of(const Roofline& chart) {
  Extent extent;
  for (const Peak& peak : chart.peaks)
    extent.top = std::max(extent.top, positive(peak.gflop_per_s, fmt::format("peak '{}'", peak.name), "gflop_per_s"));
  for (const Kernel& kernel : chart.kernels) {
    const std::string owner = fmt::format("kernel '{}'", kernel.name);
    extent.x.add(positive(kernel.flop_per_byte, owner, "flop_per_byte") / 2);
    extent.x.add(kernel.flop_per_byte * 2);
    extent.y.add(positive(kernel.gflop_per_s, owner, "gflop_per_s") / 2);
    extent.y.add(kernel.gflop_per_s * 2);
  }
  for (const Bandwidth& roof : chart.bandwidths) {
    const std::string owner = fmt::format("bandwidth '{}'", roof.name);
    const double value = positive(roof.gb_per_s, owner, "gb_per_s");
    const double low = positive(roof.low.value_or(value), owner, "low");
    const double high = positive(roof.high.value_or(value), owner, "high");
    TANDEM_CHECK(low <= value && value <= high, invalid_argument, owner, ": gb_per_s is ", value,
                 "; it must lie between low, which is ", low, ", and high, which is ", high);
    const double ridge = extent.top > 0 ? extent.top / value : 1;
    if (chart.kernels.empty()) extent.x.add(ridge / 30);
    extent.x.add(extent.top > 0 ? ridge * 3 : 1);
  }
  if (extent.x.empty() && extent.top > 0) extent.x = {0.1, 10};
  for (const Bandwidth& roof : chart.bandwidths) {
    extent.y.add(roof.gb_per_s * *extent.x.low);
    if (extent.top == 0) extent.y.add(roof.gb_per_s * *extent.x.high);
  }
  for (const Peak& peak : chart.peaks) extent.y.add(peak.gflop_per_s);
  if (extent.top > 0) extent.y.add(extent.top * 2.5);  // room for the names of peaks
  return extent;
}

struct Segment {
  Point from, to;
};

/// The part of a roof inside the plot and below the highest peak; none if it lies outside.
std::optional<Segment> roof_line(const Plot& plot, double gb_per_s, double top) {
  const double ceiling = top > 0 ? top : plot.y.high();
  const double left = std::max(plot.x.low(), plot.y.low() / gb_per_s);
  const double right = std::min(plot.x.high(), ceiling / gb_per_s);
  if (left >= right) return std::nullopt;
  return Segment{{plot.x(left), plot.y(left * gb_per_s)}, {plot.x(right), plot.y(right * gb_per_s)}};
}

/// The squares that a turned text from `at` covers.
std::vector<Box> turned_boxes(Point at, double length, double radians) {
  std::vector<Box> boxes;
  for (double along = 0; along < length + 6; along += 6) {
    const double x = at.x + std::min(along, length) * std::cos(radians) + 4 * std::sin(radians);
    const double y = at.y + std::min(along, length) * std::sin(radians) - 4 * std::cos(radians);
    boxes.push_back({x - 5.5, y - 5.5, x + 5.5, y + 5.5});
  }
  return boxes;
}

/// Writes a text along a line, at the first place from its upper end that is free: kernels crowd at the lower; false
/// where there is none.
bool write_along(Svg& svg, Labels& labels, const Segment& line, const std::string& text, const std::string& classes) {
  const double length = std::hypot(line.to.x - line.from.x, line.to.y - line.from.y);
  const double radians = std::atan2(line.to.y - line.from.y, line.to.x - line.from.x);
  const double width = text_width(text, kTickSize);
  for (double along = length - width - 8; along >= 6; along -= 10) {
    const Point at = {line.from.x + along * std::cos(radians) + 5 * std::sin(radians),
                      line.from.y + along * std::sin(radians) - 5 * std::cos(radians)};
    const auto boxes = turned_boxes(at, width, radians);
    if (!std::all_of(boxes.begin(), boxes.end(), [&](const Box& box) { return labels.is_free(box); })) continue;
    for (const Box& box : boxes) labels.block(box);
    svg.text(at, text, classes, Anchor::start, radians * 180 / std::numbers::pi);
    return true;
  }
  return false;
}

void draw_roof_name(Svg& svg, Labels& labels, const Segment& line, const Bandwidth& roof, const std::string& colour) {
  const std::string classes = "named small " + colour;
  if (write_along(svg, labels, line, fmt::format("{}, {} GB/s", roof.name, number_text(roof.gb_per_s)), classes) ||
      write_along(svg, labels, line, roof.name, classes))
    return;
  labels.draw(svg, {(line.from.x + line.to.x) / 2, (line.from.y + line.to.y) / 2}, roof.name, classes);
}

void draw_roofs(Svg& svg, Labels& labels, const Plot& plot, const Roofline& chart, double top) {
  for (std::size_t i = 0; i < chart.bandwidths.size(); ++i) {
    const Bandwidth& roof = chart.bandwidths[i];
    const auto line = roof_line(plot, roof.gb_per_s, top);
    if (!line) continue;
    const auto low = roof_line(plot, roof.low.value_or(roof.gb_per_s), top);
    const auto high = roof_line(plot, roof.high.value_or(roof.gb_per_s), top);
    if (roof.low && roof.high && low && high)
      svg.polygon({high->from, high->to, low->to, low->from}, "band " + series_class(i));
    svg.polyline({line->from, line->to}, "line " + series_class(i));
  }
  // Kernels' marks and the peaks' names are taken already.
  for (std::size_t i = 0; i < chart.bandwidths.size(); ++i)
    if (const auto line = roof_line(plot, chart.bandwidths[i].gb_per_s, top))
      draw_roof_name(svg, labels, *line, chart.bandwidths[i], series_class(i));
  for (const Bandwidth& roof : chart.bandwidths)
    if (const auto line = roof_line(plot, roof.gb_per_s, top)) labels.block(line->from, line->to);
}

/// Level lines from the highest roof to the right end, each with its name above, as far right as there is room.
void draw_peaks(Svg& svg, Labels& labels, const Plot& plot, const Roofline& chart) {
  double fastest = 0;
  for (const Bandwidth& roof : chart.bandwidths) fastest = std::max(fastest, roof.gb_per_s);
  for (const Peak& peak : chart.peaks) {
    const double y = plot.y(peak.gflop_per_s);
    const double left = fastest > 0 ? plot.x(peak.gflop_per_s / fastest) : plot.area.left;
    svg.polyline({{left, y}, {plot.area.right, y}}, "line peak");
    const std::string name = elided(fmt::format("{}, {} GFLOP/s", peak.name, number_text(peak.gflop_per_s)), kTickSize,
                                    plot.area.width() - 8);
    for (double right = plot.area.right - 2; right > plot.area.left; right -= 10) {
      const Box box = text_box({right, y - 5}, name, kTickSize, Anchor::end);
      if (!labels.is_free(box)) continue;
      labels.block(box);
      svg.text({right, y - 5}, name, "peak-name", Anchor::end, 0, peak.name);
      break;
    }
  }
  for (const Peak& peak : chart.peaks) {
    const double y = plot.y(peak.gflop_per_s);
    labels.block({plot.area.left, y}, {plot.area.right, y});
  }
}

}  // namespace

Svg draw(const Roofline& chart, double width) {
  check_width(width);
  const Extent extent = extent_of(chart);
  const Plot plot =
      lay_out({.width = width, .height = width < 500 ? 260.0 : 380.0}, kIntensity, extent.x, kRate, extent.y);
  Svg svg(width, plot.height, chart.title);
  draw_axes(svg, plot, kIntensity, kRate);
  Labels labels(Box{plot.area.left + 1, plot.area.top, plot.area.right + 12, plot.area.bottom - 1});
  for (const Kernel& kernel : chart.kernels) {
    const Point at = {plot.x(kernel.flop_per_byte), plot.y(kernel.gflop_per_s)};
    labels.block(Box{at.x - 6, at.y - 6, at.x + 6, at.y + 6});
  }
  draw_peaks(svg, labels, plot, chart);
  draw_roofs(svg, labels, plot, chart, extent.top);
  for (const Kernel& kernel : chart.kernels) {
    const Point at = {plot.x(kernel.flop_per_byte), plot.y(kernel.gflop_per_s)};
    svg.mark(at, 0, 4.5, "kernel",
             fmt::format("{}: {} GFLOP/s at {} FLOP per byte", kernel.name, number_text(kernel.gflop_per_s),
                         number_text(kernel.flop_per_byte)));
    labels.draw(svg, at, kernel.name, "small label");
  }
  if (chart.kernels.empty() && chart.bandwidths.empty() && chart.peaks.empty()) draw_no_data(svg, plot.area);
  return svg;
}

}  // namespace tandem::report
