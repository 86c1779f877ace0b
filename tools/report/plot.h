#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/report/labels.h"
#include "tools/report/scale.h"
#include "tools/report/svg.h"

namespace tandem::report {

/// The narrowest picture that a chart can be drawn in; the widths at which pages draw theirs (page.h) are larger.
inline constexpr double kLeastWidth = 240;

/// Throws Error(invalid_argument) unless kLeastWidth <= width <= 4000.
void check_width(double width);

/// Low and high of what an axis shows; empty until something was added.
struct Range {
  std::optional<double> low = {}, high = {};

  void add(double value);
  [[nodiscard]] bool empty() const noexcept { return !low.has_value(); }
};

/// The class of series number `index` for its colour, "s0" to "s7".
std::string series_class(std::size_t index);

/// What a plot is made of before its size is known.
struct PlotFrame {
  double width = 0;   ///< of the picture
  double height = 0;  ///< of the area between the axes
  double top = 0;     ///< room above the area, below the title of the y axis, for a legend
  double right = 0;   ///< room right of the area, for labels
  bool tight_x = false;
  bool tight_y = false;
};

/// The area between two axes, its scales, and the height of the whole picture.
struct Plot {
  Box area;
  Scale x;
  Scale y;
  double height = 0;
};

/// Lays a plot out so that ticks and titles of both axes have room. Axes without data show 0 to 1 (logarithmic: 1 to
/// 10).
Plot lay_out(const PlotFrame& frame, const Axis& x_axis, const Range& x, const Axis& y_axis, const Range& y);

/// Height of what stands below an area: ticks and title of x.
inline constexpr double kBelowArea = 42;

/// Grid, ticks and title, on the right, of an axis below `area`. Labels that would touch are left out.
void draw_x_axis(Svg& svg, const Box& area, const Scale& x, const Axis& axis);

/// Both axes; the title of y stands above the area on the left.
void draw_axes(Svg& svg, const Plot& plot, const Axis& x_axis, const Axis& y_axis);

/// Says in the middle of the area that there is nothing to show.
void draw_no_data(Svg& svg, const Box& area);

}  // namespace tandem::report
