#include "tools/report/timeline.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/labels.h"
#include "tools/report/plot.h"
#include "tools/report/scale.h"
#include "tools/report/text.h"

namespace tandem::report {
namespace {

constexpr double kRow = 19;  // of a span, without the gap below it
constexpr double kRowGap = 3;
constexpr double kLaneGap = 9;
constexpr double kNameAbove = 17;  // height of a lane's name, where it stands above its spans
constexpr double kGap = 10;
constexpr double kMostForNames = 0.26;  // of the width
constexpr double kThinnest = 0.75;      // pixels of a span that is shorter than can be seen

struct Unit {
  const char* name;
  double us;
};

Unit unit_of(double span_us) {
  if (span_us < 2e3) return {"\u00b5s", 1};
  return span_us < 2e6 ? Unit{"ms", 1e3} : Unit{"s", 1e6};
}

Range checked_times(const Timeline& timeline) {
  Range range;
  for (const Lane& lane : timeline.lanes)
    for (const Span& span : lane.spans) {
      const std::string owner = fmt::format("span '{}' of lane '{}'", span.name, lane.name);
      range.add(checked(span.start_us, Axis{}, owner, "start_us"));
      range.add(checked(span.end_us, Axis{}, owner, "end_us"));
      TANDEM_CHECK(span.start_us <= span.end_us, invalid_argument, owner, ": end_us is ", span.end_us,
                   "; it must be at least start_us, which is ", span.start_us);
      TANDEM_CHECK(span.kind < std::max<std::size_t>(timeline.kinds.size(), 1), invalid_argument, owner, ": kind is ",
                   span.kind, "; allowed: below ", std::max<std::size_t>(timeline.kinds.size(), 1));
    }
  return range;
}

/// The row of each span: the first one in which no earlier span is still going on.
std::vector<std::size_t> rows_of(const std::vector<Span>& spans) {
  std::vector<std::size_t> order(spans.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return spans[a].start_us < spans[b].start_us; });
  std::vector<double> ends;
  std::vector<std::size_t> rows(spans.size());
  for (const std::size_t index : order) {
    const auto free = std::find_if(ends.begin(), ends.end(), [&](double end) { return end <= spans[index].start_us; });
    rows[index] = static_cast<std::size_t>(free - ends.begin());
    if (free == ends.end()) ends.push_back(0);
    ends[rows[index]] = spans[index].end_us;
  }
  return rows;
}

struct PlacedLane {
  const Lane* lane = nullptr;
  std::vector<std::size_t> rows;
  double top = 0;
  double bottom = 0;
};

std::vector<PlacedLane> place(const std::vector<Lane>& lanes, double top, double above) {
  std::vector<PlacedLane> placed;
  for (const Lane& lane : lanes) {
    auto rows = rows_of(lane.spans);
    const std::size_t count = rows.empty() ? 1 : *std::max_element(rows.begin(), rows.end()) + 1;
    const double bottom = top + above + static_cast<double>(count) * (kRow + kRowGap) - kRowGap;
    placed.push_back({&lane, std::move(rows), top, bottom});
    top = bottom + kLaneGap;
  }
  return placed;
}

std::string tooltip_of(const Span& span, const Timeline& timeline, const Unit& unit) {
  std::string text = fmt::format("{}: {} {} at {} {}", span.name, number_text((span.end_us - span.start_us) / unit.us),
                                 unit.name, number_text(span.start_us / unit.us), unit.name);
  if (!timeline.kinds.empty()) text += " (" + timeline.kinds[span.kind] + ")";
  return span.detail.empty() ? text : text + "\n" + span.detail;
}

void draw_spans(Svg& svg, const PlacedLane& placed, const Timeline& timeline, const Scale& time, const Unit& unit,
                double above) {
  for (std::size_t i = 0; i < placed.rows.size(); ++i) {
    const Span& span = placed.lane->spans[i];
    const double top = placed.top + above + static_cast<double>(placed.rows[i]) * (kRow + kRowGap);
    const double left = time(span.start_us / unit.us);
    const double right = std::max(time(span.end_us / unit.us), left + kThinnest);
    svg.rect({left, top, right, top + kRow}, "span " + series_class(span.kind), tooltip_of(span, timeline, unit));
    if (text_width(span.name, kTickSize) + 6 <= right - left)
      svg.text({left + 3, top + kRow / 2 + 0.36 * kTickSize}, span.name, "inside");
  }
}

void draw_name(Svg& svg, const PlacedLane& placed, double names) {
  if (names > 0) {
    svg.text({2, placed.top + kRow / 2 + 0.36 * kLabelSize}, placed.lane->name, "label");
  } else {
    svg.text({2, placed.top + kLabelSize}, elided(placed.lane->name, kLabelSize, svg.width() - 4), "label");
  }
}

}  // namespace

Svg draw(const Timeline& timeline, double width) {
  check_width(width);
  Range range = checked_times(timeline);
  const bool empty = range.empty();
  if (empty) range.add(0);
  const Unit unit = unit_of(*range.high - *range.low);
  double longest = 0;
  for (const Lane& lane : timeline.lanes) longest = std::max(longest, text_width(lane.name, kLabelSize));
  const double names = longest <= kMostForNames * width ? longest + kGap : 0;
  const double above = names > 0 ? 0 : kNameAbove;
  std::vector<LegendEntry> legend;
  for (std::size_t i = 0; i < timeline.kinds.size(); ++i)
    legend.push_back({timeline.kinds[i], "span " + series_class(i), 1});
  const double key = draw_legend(nullptr, legend, 2, 0, width - 2) + 8;
  const auto lanes = place(timeline.lanes, key, above);

  const Box area = {names + 2, key, width - 14, lanes.empty() ? key + 60 : lanes.back().bottom + 4};
  const Axis axis{.label = unit.name, .from_zero = false};
  const Scale time(axis, *range.low / unit.us, *range.high / unit.us, area.left, area.right, true);
  Svg svg(width, area.bottom + kBelowArea, timeline.title);
  draw_legend(&svg, legend, 2, 0, width - 2);
  draw_x_axis(svg, area, time, axis);
  svg.line({area.left, area.bottom}, {area.right, area.bottom}, "axis");
  for (const PlacedLane& lane : lanes) {
    draw_spans(svg, lane, timeline, time, unit, above);
    draw_name(svg, lane, names);
  }
  if (empty) draw_no_data(svg, area);
  return svg;
}

}  // namespace tandem::report
