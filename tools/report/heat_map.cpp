#include "tools/report/heat_map.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/report/plot.h"
#include "tools/report/text.h"

namespace tandem::report {
namespace {

constexpr double kGap = 8;
constexpr double kKey = 24;             // height of the row with the key
constexpr double kPalest = 0.06;        // opacity of the lowest value
constexpr double kMostForRows = 0.3;    // of the width, for labels
constexpr double kMostForColumns = 90;  // of turned labels

struct Grid {
  Box area;
  double cell_width = 0;
  double cell_height = 0;
  bool turned = false;  ///< labels of columns
  double height = 0;    ///< of the picture
};

double longest(const std::vector<std::string>& labels) {
  double width = 0;
  for (const auto& label : labels) width = std::max(width, text_width(label, kTickSize));
  return width;
}

Range checked_range(const HeatMap& map) {
  TANDEM_CHECK(map.x.size() <= kMostCells && map.y.size() <= kMostCells && map.x.size() * map.y.size() <= kMostCells,
               invalid_argument, "heat map: ", map.x.size(), " x ", map.y.size(), " cells; allowed: up to ",
               kMostCells);
  TANDEM_CHECK(map.values.size() == map.x.size() * map.y.size(), invalid_argument, "heat map: ", map.values.size(),
               " values for ", map.x.size(), " x ", map.y.size(), " cells");
  Range range;
  for (std::size_t i = 0; i < map.values.size(); ++i)
    if (map.values[i])
      range.add(checked(*map.values[i], map.value,
                        fmt::format("cell ('{}', '{}')", map.x[i % map.x.size()], map.y[i / map.x.size()]), "value"));
  return range;
}

Grid lay_out(const HeatMap& map, double width) {
  Grid grid;
  const auto rows = static_cast<double>(std::max<std::size_t>(map.y.size(), 1));
  const auto columns = static_cast<double>(std::max<std::size_t>(map.x.size(), 1));
  grid.area.left = std::min(longest(map.y), kMostForRows * width) + kGap + 3;
  grid.area.right = width - 2;
  grid.area.top = kKey + (map.y_label.empty() ? 4 : 22);
  grid.cell_height = std::clamp(600 / rows, 6.0, 27.0);
  grid.cell_width = std::min(grid.area.width() / columns, 110.0);
  grid.area.right = grid.area.left + columns * grid.cell_width;
  grid.area.bottom = grid.area.top + rows * grid.cell_height;
  grid.turned = longest(map.x) + 6 > grid.cell_width;
  const double labels = grid.turned ? std::min(longest(map.x), kMostForColumns) + 4 : 16;
  grid.height = grid.area.bottom + kGap + labels + (map.x_label.empty() ? 4 : 24);
  return grid;
}

/// 0 (palest) to 1 by the axis of the values.
struct Shade {
  Scale scale;
  double operator()(double value) const { return scale(value); }
};

/// The classes of a number on its cell: the style sheet's themes change from dark to light text at different shades.
const char* text_class(double shade) { return shade < 0.55 ? "cell low" : shade < 0.72 ? "cell mid" : "cell high"; }

double opacity_of(double share) { return kPalest + share * (1 - kPalest); }

void draw_cells(Svg& svg, const HeatMap& map, const Grid& grid, const Shade& shade) {
  double widest = 0;
  for (const auto& value : map.values)
    if (value) widest = std::max(widest, text_width(number_text(*value, map.value.numbers), kTickSize));
  const bool numbers = widest + 4 <= grid.cell_width && grid.cell_height >= 16;
  const double inset = std::min({1.0, grid.cell_width / 10, grid.cell_height / 10});
  for (std::size_t i = 0; i < map.values.size(); ++i) {
    const double left = grid.area.left + static_cast<double>(i % map.x.size()) * grid.cell_width;
    const double top = grid.area.top + static_cast<double>(i / map.x.size()) * grid.cell_height;
    const Box cell = {left + inset, top + inset, left + grid.cell_width - inset, top + grid.cell_height - inset};
    const std::string name = map.y[i / map.x.size()] + ", " + map.x[i % map.x.size()] + ": ";
    if (!map.values[i]) {
      svg.rect(cell, "absent", name + "no value");
      continue;
    }
    const std::string number = number_text(*map.values[i], map.value.numbers);
    const double share = opacity_of(shade(*map.values[i]));
    svg.rect(cell, "heat", name + number, share);
    if (numbers)
      svg.text({left + grid.cell_width / 2, top + grid.cell_height / 2 + 0.36 * kTickSize}, number, text_class(share),
               Anchor::middle);
  }
}

/// Every so many labels where cells are too small for each.
std::size_t stride(double cell) { return static_cast<std::size_t>(std::ceil((kTickSize + 4) / cell)); }

void draw_labels(Svg& svg, const HeatMap& map, const Grid& grid) {
  const double room = grid.area.left - kGap;
  for (std::size_t i = 0; i < map.y.size(); i += stride(grid.cell_height)) {
    const double middle = grid.area.top + (static_cast<double>(i) + 0.5) * grid.cell_height;
    svg.text({room, middle + 0.36 * kTickSize}, elided(map.y[i], kTickSize, room - 2), "tick", Anchor::end);
  }
  for (std::size_t i = 0; i < map.x.size(); i += grid.turned ? stride(grid.cell_width) : 1) {
    const double middle = grid.area.left + (static_cast<double>(i) + 0.5) * grid.cell_width;
    if (grid.turned) {
      svg.text({middle + 0.36 * kTickSize, grid.area.bottom + kGap}, elided(map.x[i], kTickSize, kMostForColumns),
               "tick", Anchor::end, -90);
    } else {
      svg.text({middle, grid.area.bottom + kGap + kTickSize}, map.x[i], "tick", Anchor::middle);
    }
  }
  svg.text({2, grid.area.top - 10}, elided(map.y_label, kLabelSize, svg.width() - 4), "title");
  svg.text({grid.area.right, grid.height - 6}, elided(map.x_label, kLabelSize, grid.area.right - 2), "title",
           Anchor::end);
}

/// What the colours mean: the name of the value, its lowest, a strip of shades, its highest.
void draw_key(Svg& svg, const HeatMap& map, const Shade& shade) {
  constexpr double kStep = 14;
  constexpr int kSteps = 6;
  const std::string low = number_text(shade.scale.low(), map.value.numbers);
  const std::string high = number_text(shade.scale.high(), map.value.numbers);
  const double strip = text_width(low, kTickSize) + kSteps * kStep + 12 + text_width(high, kTickSize);
  const std::string name = elided(map.value.label, kLabelSize, svg.width() - strip - 16);
  double x = 2;
  svg.text({x, kLabelSize}, name, "title");
  x += text_width(name, kLabelSize) + 10;
  svg.text({x, kLabelSize}, low, "tick");
  x += text_width(low, kTickSize) + 6;
  for (int i = 0; i < kSteps; ++i, x += kStep)
    svg.rect({x, 3, x + kStep, 13}, "heat", {}, opacity_of(static_cast<double>(i) / (kSteps - 1)));
  svg.text({x + 6, kLabelSize}, high, "tick");
}

}  // namespace

Svg draw(const HeatMap& map, double width) {
  check_width(width);
  Range range = checked_range(map);
  const Grid grid = lay_out(map, width);
  Svg svg(width, grid.height, map.title);
  if (range.empty()) {
    draw_no_data(svg, grid.area);
  } else {
    const Shade shade{Scale(map.value, *range.low, *range.high, 0, 1, true)};
    draw_key(svg, map, shade);
    draw_cells(svg, map, grid, shade);
  }
  draw_labels(svg, map, grid);
  return svg;
}

}  // namespace tandem::report
