#include "tools/report/bar_chart.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/plot.h"
#include "tools/report/text.h"

namespace tandem::report {
namespace {

constexpr double kBarHeight = 14;
constexpr double kRow = 25;
constexpr double kLabelAbove = 17;  // of a row, where its label stands above its bar
constexpr double kGap = 8;
constexpr double kMostForLabels = 0.36;  // of the width
constexpr double kNoBars = 60;

void add(const Bar& bar, const Axis& axis, Range& range) {
  const std::string owner = fmt::format("bar '{}'", bar.label);
  const double value = checked(bar.value, axis, owner, "value");
  const double low = checked(bar.low.value_or(value), axis, owner, "low");
  const double high = checked(bar.high.value_or(value), axis, owner, "high");
  TANDEM_CHECK(low <= value && value <= high, invalid_argument, owner, ": value is ", value,
               "; it must lie between low, which is ", low, ", and high, which is ", high);
  range.add(low);
  range.add(high);
}

struct Rows {
  double label = 0;      ///< room for labels left of the bars; 0: above them
  double top = 0;        ///< of the first row
  double height = kRow;  ///< of a row
};

Rows rows_of(const BarChart& chart, double width) {
  double longest = 0;
  for (const Bar& bar : chart.bars) longest = std::max(longest, text_width(bar.label, kLabelSize));
  Rows rows{.top = 8};
  if (longest <= kMostForLabels * width) {
    rows.label = longest + kGap;
  } else {
    rows.height += kLabelAbove;
  }
  return rows;
}

void draw_bar(Svg& svg, const Bar& bar, const BarChart& chart, const Scale& scale, const Rows& rows, double top) {
  const double middle = top + rows.height - kRow / 2;
  const std::string colour = series_class(bar.colour);
  const std::string value = number_text(bar.value, chart.value.numbers);
  const bool ranged = bar.low && bar.high && *bar.low < *bar.high;
  std::string tooltip = bar.label + ": " + value;
  if (ranged)
    tooltip += fmt::format(" ({}\u2013{})", number_text(*bar.low, chart.value.numbers),
                           number_text(*bar.high, chart.value.numbers));
  const double zero = scale(chart.value.kind == ScaleKind::log ? scale.low() : 0);
  const double end = scale(bar.value);
  svg.rect({std::min(zero, end), middle - kBarHeight / 2, std::max(zero, end), middle + kBarHeight / 2},
           "bar " + colour, tooltip);
  double right = std::max(zero, end);
  if (ranged) {
    const double low = scale(*bar.low);
    const double high = scale(*bar.high);
    svg.line({low, middle}, {high, middle}, "whisker");
    for (const double x : {low, high}) svg.line({x, middle - 4}, {x, middle + 4}, "whisker");
    right = std::max(right, high);
  }
  svg.text({right + 6, middle + 0.36 * kLabelSize}, value, "label");
  if (rows.label > 0) {
    svg.text({rows.label - kGap + 2, middle + 0.36 * kLabelSize}, bar.label, "label", Anchor::end);
  } else {
    svg.text({2, top + kLabelSize + 1}, elided(bar.label, kLabelSize, svg.width() - 4), "label", Anchor::start, 0,
             bar.label);
  }
}

}  // namespace

Svg draw(const BarChart& chart, double width) {
  check_width(width);
  Range range;
  double values = 0;
  for (const Bar& bar : chart.bars) {
    add(bar, chart.value, range);
    values = std::max(values, text_width(number_text(bar.value, chart.value.numbers), kLabelSize));
  }
  Axis axis = chart.value;
  axis.from_zero = true;  // the length of a bar is its value
  if (range.empty()) range.add(axis.kind == ScaleKind::log ? 1 : 0);
  const Rows rows = rows_of(chart, width);
  const double height =
      std::max(rows.height * static_cast<double>(chart.bars.size()), chart.bars.empty() ? kNoBars : 0);
  const Box area = {rows.label + 4, rows.top, width - values - 10, rows.top + height};
  const Scale scale(axis, *range.low, *range.high, area.left, area.right);

  Svg svg(width, area.bottom + kBelowArea, chart.title);
  draw_x_axis(svg, area, scale, axis);
  double top = area.top;
  for (const Bar& bar : chart.bars) {
    draw_bar(svg, bar, chart, scale, rows, top);
    top += rows.height;
  }
  const double zero = scale(axis.kind == ScaleKind::log ? scale.low() : 0);
  svg.line({zero, area.top}, {zero, area.bottom}, "axis");
  if (chart.bars.empty()) draw_no_data(svg, area);
  return svg;
}

}  // namespace tandem::report
