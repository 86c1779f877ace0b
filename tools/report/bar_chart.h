#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/report/scale.h"
#include "tools/report/svg.h"

namespace tandem::report {

struct Bar {
  std::string label = {};
  double value = 0;
  std::optional<double> low = {}, high = {};  ///< drawn as a whisker where both are there
  std::size_t colour = 0;                     ///< number of a series colour: bars of one kind share it
};

/// Horizontal bars from zero (on a logarithmic axis: from its low end), one below the other in the order given, each
/// with its value beside it. Labels stand on the left, or above their bars where they need too much of the width.
struct BarChart {
  std::string title = {};  ///< said by screen readers; the caption is the page's
  Axis value = {};
  std::vector<Bar> bars = {};
};

/// A picture `width` pixels wide. Throws Error(invalid_argument) naming the bar for values that the axis cannot show,
/// and for bounds that do not enclose their value.
Svg draw(const BarChart& chart, double width);

}  // namespace tandem::report
