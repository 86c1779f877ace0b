#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/report/svg.h"

namespace tandem::report {

/// Height of a line of labels, in pixels.
inline constexpr double kLine = 15;

/// The box that a text of `size` pixels needs whose base line is at `at`.
Box text_box(Point at, std::string_view text, double size, Anchor anchor = Anchor::start);

/// Moves `wanted` centres apart so that neighbours are at least `gap` apart, within [low, high], each as near as
/// possible to where it was wanted. Order is kept (ties: that of the list). (high - low) >= gap * (n - 1).
std::vector<double> spread(const std::vector<double>& wanted, double gap, double low, double high);

/// What is taken of a picture, so that labels find free places.
class Labels {
 public:
  explicit Labels(Box bounds) : bounds_(bounds) {}

  void block(const Box& box) { taken_.push_back(box); }
  /// The way of a line that labels should not cover.
  void block(Point from, Point to);
  [[nodiscard]] bool is_free(const Box& box) const;

  /// Draws `text` as near to the mark at `at` as there is room, with a thin line to the mark where that is not beside
  /// it; across lines only where no other place is as near. False, and nothing is drawn, when there is no room.
  bool draw(Svg& svg, Point at, std::string_view text, std::string_view classes);

 private:
  bool draw_at(Svg& svg, Point at, const std::string& text, std::string_view classes, double radius, bool across);
  [[nodiscard]] bool is_free(Point from, Point to) const;
  [[nodiscard]] bool meets_line(const Box& box) const;

  Box bounds_;
  std::vector<Box> taken_;
  std::vector<Box> lines_;  ///< small boxes along the ways of lines
};

/// Rows of "mark name" above a plot.
struct LegendEntry {
  std::string name = {};
  std::string classes = {};  ///< of the mark
  int shape = 1;             ///< of the mark, see Svg::mark
};

/// Draws (or with `svg` null: only measures) the rows below `top`, between `left` and `right`; names that are wider
/// than a row are elided. Returns the height of the rows.
double draw_legend(Svg* svg, const std::vector<LegendEntry>& entries, double left, double top, double right);

}  // namespace tandem::report
