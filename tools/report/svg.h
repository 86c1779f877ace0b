#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem::report {

/// Pixels of the picture, y downwards.
struct Point {
  double x = 0;
  double y = 0;
};

struct Box {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;

  [[nodiscard]] double width() const noexcept { return right - left; }
  [[nodiscard]] double height() const noexcept { return bottom - top; }
  [[nodiscard]] bool overlaps(const Box& other) const noexcept {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
  [[nodiscard]] bool contains(const Box& other) const noexcept {
    return left <= other.left && other.right <= right && top <= other.top && other.bottom <= bottom;
  }
};

enum class Anchor { start, middle, end };

/// Sizes of the style sheet's text, in pixels: ticks, and labels and titles of axes.
inline constexpr double kTickSize = 11;
inline constexpr double kLabelSize = 12;

/// A picture as SVG text, drawn from back to front. Colours, line widths and text sizes are the style sheet's
/// (style.h): shapes only name their classes, so that one picture serves light, dark and print. `tooltip`, where not
/// empty, is what a pointer over the shape shows (<title>). Coordinates are written with two decimals and must be
/// finite.
class Svg {
 public:
  /// `description` is what a screen reader says of the picture.
  Svg(double width, double height, std::string_view description);

  [[nodiscard]] double width() const noexcept { return width_; }
  [[nodiscard]] double height() const noexcept { return height_; }

  void line(Point from, Point to, std::string_view classes);
  void polyline(const std::vector<Point>& points, std::string_view classes);
  void polygon(const std::vector<Point>& points, std::string_view classes);
  /// `opacity` is that of the fill.
  void rect(const Box& box, std::string_view classes, std::string_view tooltip = {}, double opacity = 1);
  /// A mark of a data point; shapes 0 to 3 are circle, square, diamond and triangle, of about the same area.
  void mark(Point at, int shape, double radius, std::string_view classes, std::string_view tooltip = {});
  /// `at` is on the base line. Turned by `degrees` about `at`, clockwise.
  void text(Point at, std::string_view text, std::string_view classes, Anchor anchor = Anchor::start,
            double degrees = 0, std::string_view tooltip = {});

  /// The element <svg>, without an XML declaration.
  [[nodiscard]] std::string markup() const;

 private:
  void shape(std::string_view element, std::string_view tooltip);

  double width_;
  double height_;
  std::string body_;
};

/// Up to two decimals, without trailing zeros: "12.5", "-3", "0".
std::string coordinate(double value);

}  // namespace tandem::report
