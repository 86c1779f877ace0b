#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/report/scale.h"
#include "tools/report/svg.h"

namespace tandem::report {

/// A value for each pair of two categories, as a colour from pale to strong and, where cells have room, as a number.
struct HeatMap {
  std::string title = {};  ///< said by screen readers; the caption is the page's
  std::string x_label = {}, y_label = {};
  std::vector<std::string> x = {}, y = {};         ///< columns, and rows from top to bottom
  Axis value = {};                                 ///< what the colour means; from_zero: palest is zero
  std::vector<std::optional<double>> values = {};  ///< (y, x) row-major; cells without a value stay empty
};

/// The most cells of a map.
inline constexpr std::size_t kMostCells = 20'000;

/// A picture `width` pixels wide. Throws Error(invalid_argument) naming the cell for values that the axis cannot show,
/// and when there are not x times y values, or more than kMostCells.
Svg draw(const HeatMap& map, double width);

}  // namespace tandem::report
