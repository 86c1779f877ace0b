#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/report/scale.h"
#include "tools/report/svg.h"

namespace tandem::report {

struct LinePoint {
  double x = 0;
  double y = 0;
  std::optional<double> low = {},
                        high = {};  ///< of y; where all points of a series have both, they are drawn as a band
};

struct LineSeries {
  std::string name = {};
  std::vector<LinePoint> points = {};  ///< drawn in the order of x
  bool dashed = false;                 ///< a prediction or a bound, say
};

/// Several series over one x. Each is named at the right end of its line, or, where names need too much of the width,
/// in rows above; series differ in colour and shape of their marks.
struct LineChart {
  std::string title = {};  ///< said by screen readers; the caption is the page's
  Axis x = {};
  Axis y = {};
  std::vector<LineSeries> series = {};
};

/// A picture `width` pixels wide. Throws Error(invalid_argument) naming the series for values that the axes cannot show
/// (see checked()), and for bounds that do not enclose their value.
Svg draw(const LineChart& chart, double width);

}  // namespace tandem::report
