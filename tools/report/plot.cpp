#include "tools/report/plot.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/text.h"

namespace tandem::report {
namespace {

constexpr double kEdge = 2;       // between texts and the picture's edge
constexpr double kTickRoom = 8;   // between ticks' labels and the area
constexpr double kTitle = 22;     // height of the title above the area
constexpr double kYTick = 30;     // height of the area per tick of y, at least
constexpr double kBetweenX = 12;  // between the labels of x, at least

Range or_default(const Range& range, const Axis& axis) {
  if (!range.empty()) return range;
  return axis.kind == ScaleKind::log ? Range{1, 10} : Range{0, 1};
}

int y_ticks(double height) { return std::max(2, static_cast<int>(height / kYTick)); }

double widest(const std::vector<Tick>& ticks) {
  double most = 0;
  for (const Tick& tick : ticks) most = std::max(most, text_width(tick.text, kTickSize));
  return most;
}

/// `width` is that of the picture, which no label leaves.
Box label_box(const Box& area, const Scale& scale, const Tick& tick, double width) {
  const double half = text_width(tick.text, kTickSize) / 2;
  const double x = std::clamp(scale(tick.value), half + kEdge, std::max(half + kEdge, width - half - kEdge));
  return text_box({x, area.bottom + kTickRoom + kTickSize}, tick.text, kTickSize, Anchor::middle);
}

/// The most ticks of x whose labels do not touch.
std::vector<Tick> x_ticks(const Box& area, const Scale& x, double width) {
  for (int most = std::max(2, static_cast<int>(area.width() / 40)); most > 2; --most) {
    auto ticks = x.ticks(most);
    bool apart = true;
    for (std::size_t i = 1; i < ticks.size(); ++i) {
      const double end = label_box(area, x, ticks[i - 1], width).right;
      apart = apart && end + kBetweenX <= label_box(area, x, ticks[i], width).left;
    }
    if (apart) return ticks;
  }
  return x.ticks(2);
}

}  // namespace

void check_width(double width) {
  TANDEM_CHECK(width >= kLeastWidth && width <= 4000, invalid_argument, "width is ", width, "; allowed: ", kLeastWidth,
               " to 4000");
}

void Range::add(double value) {
  low = std::min(low.value_or(value), value);
  high = std::max(high.value_or(value), value);
}

std::string series_class(std::size_t index) { return fmt::format("s{}", index % 8); }

Plot lay_out(const PlotFrame& frame, const Axis& x_axis, const Range& x, const Axis& y_axis, const Range& y) {
  const Range xs = or_default(x, x_axis);
  const Range ys = or_default(y, y_axis);
  Box area;
  area.top = (y_axis.label.empty() ? kTitle / 2 : kTitle) + frame.top;
  area.bottom = area.top + frame.height;
  const Scale y_scale(y_axis, *ys.low, *ys.high, area.bottom, area.top, frame.tight_y);
  area.left = kEdge + widest(y_scale.ticks(y_ticks(frame.height))) + kTickRoom;
  area.right = frame.width - std::max(frame.right, 14.0);
  return {area, Scale(x_axis, *xs.low, *xs.high, area.left, area.right, frame.tight_x), y_scale,
          area.bottom + kBelowArea};
}

void draw_x_axis(Svg& svg, const Box& area, const Scale& x, const Axis& axis) {
  double last = -1e9;
  for (const Tick& tick : x_ticks(area, x, svg.width())) {
    svg.line({x(tick.value), area.top}, {x(tick.value), area.bottom + 4}, "grid");
    const Box box = label_box(area, x, tick, svg.width());
    if (box.left < last + 4) continue;
    last = box.right;
    svg.text({(box.left + box.right) / 2, area.bottom + kTickRoom + kTickSize}, tick.text, "tick", Anchor::middle);
  }
  svg.text({area.right, area.bottom + kBelowArea - 5}, elided(axis.label, kLabelSize, area.right - kEdge), "title",
           Anchor::end);
}

void draw_axes(Svg& svg, const Plot& plot, const Axis& x_axis, const Axis& y_axis) {
  const Box& area = plot.area;
  for (const Tick& tick : plot.y.ticks(y_ticks(area.height()))) {
    const double y = plot.y(tick.value);
    svg.line({area.left, y}, {area.right, y}, "grid");
    svg.text({area.left - kTickRoom, y + 0.36 * kTickSize}, tick.text, "tick", Anchor::end);
  }
  draw_x_axis(svg, area, plot.x, x_axis);
  svg.line({area.left, area.bottom}, {area.right, area.bottom}, "axis");
  svg.text({kEdge, kLabelSize}, elided(y_axis.label, kLabelSize, svg.width() - 2 * kEdge), "title");
}

void draw_no_data(Svg& svg, const Box& area) {
  svg.text({(area.left + area.right) / 2, (area.top + area.bottom) / 2}, "no data", "title", Anchor::middle);
}

}  // namespace tandem::report
