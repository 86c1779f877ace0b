#include "tools/report/labels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "tools/report/text.h"

namespace tandem::report {
namespace {

constexpr double kAscent = 0.95;  // of the size: what faces reach above and below the base line
constexpr double kDescent = 0.26;
constexpr double kMarkRoom = 10;  // from the middle of a mark to the line from its label, outside what the mark takes

/// Where a label of this size goes when its mark is at `at`: the point of its box nearest to the mark, by direction.
Box beside(Point at, double radius, Point direction, double width, double height) {
  const double x = at.x + radius * direction.x;
  const double y = at.y + radius * direction.y;
  const double left = direction.x > 0.3 ? x : direction.x < -0.3 ? x - width : x - width / 2;
  const double top = direction.y > 0.3 ? y : direction.y < -0.3 ? y - height : y - height / 2;
  return {left, top, left + width, top + height};
}

Point nearest(const Box& box, Point to) {
  return {std::clamp(to.x, box.left, box.right), std::clamp(to.y, box.top, box.bottom)};
}

/// Points along a line, about five pixels apart.
std::vector<Point> dots(Point from, Point to) {
  const int steps = std::clamp(static_cast<int>(std::hypot(to.x - from.x, to.y - from.y) / 5), 1, 1000);
  std::vector<Point> points;
  for (int i = 0; i <= steps; ++i) {
    const double share = static_cast<double>(i) / steps;
    points.push_back({from.x + share * (to.x - from.x), from.y + share * (to.y - from.y)});
  }
  return points;
}

}  // namespace

Box text_box(Point at, std::string_view text, double size, Anchor anchor) {
  const double width = text_width(text, size);
  const double left = anchor == Anchor::start ? at.x : anchor == Anchor::middle ? at.x - width / 2 : at.x - width;
  return {left, at.y - kAscent * size, left + width, at.y + kDescent * size};
}

std::vector<double> spread(const std::vector<double>& wanted, double gap, double low, double high) {
  std::vector<std::size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });
  // Runs of labels that touch, each centred on the mean of what its labels want.
  struct Run {
    double sum;
    double count;
    double first;
  };
  std::vector<Run> runs;
  const auto settle = [&](Run& run) {
    run.first =
        std::clamp(run.sum / run.count - gap * (run.count - 1) / 2, low, std::max(low, high - gap * (run.count - 1)));
  };
  for (const std::size_t index : order) {
    runs.push_back({wanted[index], 1, 0});
    settle(runs.back());
    while (runs.size() > 1 && runs.back().first < runs[runs.size() - 2].first + gap * runs[runs.size() - 2].count) {
      const Run last = runs.back();
      runs.pop_back();
      runs.back().sum += last.sum;
      runs.back().count += last.count;
      settle(runs.back());
    }
  }
  std::vector<double> placed(wanted.size());
  std::size_t next = 0;
  for (const Run& run : runs)
    for (double i = 0; i < run.count; ++i) placed[order[next++]] = run.first + gap * i;
  return placed;
}

void Labels::block(Point from, Point to) {
  for (const Point& dot : dots(from, to)) lines_.push_back({dot.x - 1.5, dot.y - 1.5, dot.x + 1.5, dot.y + 1.5});
}

bool Labels::is_free(const Box& box) const {
  return bounds_.contains(box) &&
         std::none_of(taken_.begin(), taken_.end(), [&](const Box& other) { return box.overlaps(other); });
}

bool Labels::is_free(Point from, Point to) const {
  const auto way = dots(from, to);
  return std::none_of(way.begin(), way.end(), [&](const Point& dot) {
    const Box box = {dot.x - 0.5, dot.y - 0.5, dot.x + 0.5, dot.y + 0.5};
    return std::any_of(taken_.begin(), taken_.end(), [&](const Box& other) { return box.overlaps(other); });
  });
}

bool Labels::meets_line(const Box& box) const {
  return std::any_of(lines_.begin(), lines_.end(), [&](const Box& line) { return box.overlaps(line); });
}

bool Labels::draw(Svg& svg, Point at, std::string_view text, std::string_view classes) {
  struct Attempt {
    double radius;
    bool across;  // lines
  };
  // A label on a line beside its mark is easier to read than one far away.
  static constexpr Attempt kAttempts[] = {
      {8, false}, {18, false}, {8, true},  {30, false}, {18, true},  {45, false},
      {30, true}, {65, false}, {45, true}, {90, true},  {120, true},
  };
  const std::string shown = elided(text, kTickSize, 0.6 * bounds_.width());
  return std::any_of(std::begin(kAttempts), std::end(kAttempts), [&](const Attempt& attempt) {
    return draw_at(svg, at, shown, classes, attempt.radius, attempt.across);
  });
}

bool Labels::draw_at(Svg& svg, Point at, const std::string& text, std::string_view classes, double radius,
                     bool across) {
  static constexpr std::array<Point, 8> kDirections = {
      {{1, 0}, {-1, 0}, {0.7, -0.7}, {0.7, 0.7}, {-0.7, -0.7}, {-0.7, 0.7}, {0, -1}, {0, 1}}};
  const Box size = text_box({0, 0}, text, kTickSize);
  for (const Point direction : kDirections) {
    const Box box = beside(at, radius, direction, size.width(), size.height());
    if (!is_free(box) || (!across && meets_line(box))) continue;
    const Point end = nearest(box, at);
    const double length = std::hypot(end.x - at.x, end.y - at.y);
    if (length > kMarkRoom) {
      const Point start = {at.x + kMarkRoom * (end.x - at.x) / length, at.y + kMarkRoom * (end.y - at.y) / length};
      if (!is_free(start, end)) continue;
      svg.line(start, end, "leader");
      for (const Point& dot : dots(start, end)) block(Box{dot.x - 1, dot.y - 1, dot.x + 1, dot.y + 1});
    }
    svg.text({box.left, box.top - size.top}, text, classes);
    block(Box{box.left - 2, box.top - 1, box.right + 2, box.bottom + 1});
    return true;
  }
  return false;
}

double draw_legend(Svg* svg, const std::vector<LegendEntry>& entries, double left, double top, double right) {
  constexpr double kMark = 14;
  constexpr double kGap = 18;
  double x = left;
  double rows = entries.empty() ? 0 : 1;
  for (const LegendEntry& entry : entries) {
    const std::string name = elided(entry.name, kLabelSize, right - left - kMark);
    const double width = kMark + text_width(name, kLabelSize);
    if (x > left && x + width > right) {
      x = left;
      ++rows;
    }
    if (svg != nullptr) {
      const double base = top + (rows - 1) * (kLine + 3) + kLabelSize;
      svg->mark({x + 5, base - 4}, entry.shape, 4.5, entry.classes);
      svg->text({x + kMark, base}, name, "label");
    }
    x += width + kGap;
  }
  return rows * (kLine + 3);
}

}  // namespace tandem::report
