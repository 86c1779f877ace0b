#pragma once

#include <string>
#include <vector>

#include "tools/report/scale.h"
#include "tools/report/svg.h"

namespace tandem::report {

struct ScatterPoint {
  std::string label =
      {};  ///< drawn where there is room, those farthest from their measurement first; always in the tooltip
  double measured = 0;
  double predicted = 0;
  std::size_t group = 0;  ///< number of one of the chart's groups, which has a colour and a mark
};

/// Predictions against measurements of the same things, with the diagonal where they agree and bands of +-10 % and
/// +-25 % of the measurement around it. Above: how many points lie in each band.
struct Scatter {
  std::string title = {};                ///< said by screen readers; the caption is the page's
  Axis quantity = {};                    ///< of both: "ms per step"; values are >= 0
  std::vector<std::string> groups = {};  ///< named above where there are several
  std::vector<ScatterPoint> points = {};
};

/// A picture up to `width` pixels wide, whose area is square. Throws Error(invalid_argument) naming the point for
/// values that the axis cannot show or that are negative, and for groups that the chart does not have.
Svg draw(const Scatter& chart, double width);

}  // namespace tandem::report
