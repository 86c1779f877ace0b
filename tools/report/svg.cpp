#include "tools/report/svg.h"

#include <cassert>
#include <cmath>

#include <fmt/format.h>

#include "tools/report/text.h"

namespace tandem::report {
namespace {

std::string list_of(const std::vector<Point>& points) {
  std::string list;
  for (const Point& point : points) {
    if (!list.empty()) list += ' ';
    list += coordinate(point.x) + ',' + coordinate(point.y);
  }
  return list;
}

const char* name_of(Anchor anchor) {
  return anchor == Anchor::start ? "start" : anchor == Anchor::middle ? "middle" : "end";
}

std::vector<Point> outline(Point at, int shape, double radius) {
  if (shape == 1) {
    const double r = 0.89 * radius;
    return {{at.x - r, at.y - r}, {at.x + r, at.y - r}, {at.x + r, at.y + r}, {at.x - r, at.y + r}};
  }
  if (shape == 2) {
    const double r = 1.25 * radius;
    return {{at.x, at.y - r}, {at.x + r, at.y}, {at.x, at.y + r}, {at.x - r, at.y}};
  }
  const double r = 1.3 * radius;
  return {{at.x, at.y - r}, {at.x + 0.95 * r, at.y + 0.7 * r}, {at.x - 0.95 * r, at.y + 0.7 * r}};
}

}  // namespace

std::string coordinate(double value) {
  assert(std::isfinite(value));
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

Svg::Svg(double width, double height, std::string_view description) : width_(width), height_(height) {
  body_ = fmt::format("<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n",
                      coordinate(width), coordinate(height), escaped(description));
}

/// Closes the element that `element` opens, with the tooltip in it.
void Svg::shape(std::string_view element, std::string_view tooltip) {
  body_ += element;
  if (tooltip.empty()) {
    body_ += "/>\n";
  } else {
    const std::string_view tag = element.substr(1, element.find(' ') - 1);
    body_ += fmt::format("><title>{}</title></{}>\n", escaped(tooltip), tag);
  }
}

void Svg::line(Point from, Point to, std::string_view classes) {
  shape(fmt::format("<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{}\"", coordinate(from.x),
                    coordinate(from.y), coordinate(to.x), coordinate(to.y), classes),
        {});
}

void Svg::polyline(const std::vector<Point>& points, std::string_view classes) {
  shape(fmt::format("<polyline points=\"{}\" class=\"{}\"", list_of(points), classes), {});
}

void Svg::polygon(const std::vector<Point>& points, std::string_view classes) {
  shape(fmt::format("<polygon points=\"{}\" class=\"{}\"", list_of(points), classes), {});
}

void Svg::rect(const Box& box, std::string_view classes, std::string_view tooltip, double opacity) {
  std::string element =
      fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{}\"", coordinate(box.left),
                  coordinate(box.top), coordinate(box.width()), coordinate(box.height()), classes);
  if (opacity < 1) element += fmt::format(" fill-opacity=\"{}\"", coordinate(opacity));
  shape(element, tooltip);
}

void Svg::mark(Point at, int kind, double radius, std::string_view classes, std::string_view tooltip) {
  if (kind == 0) {
    shape(fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{}\"", coordinate(at.x), coordinate(at.y),
                      coordinate(radius), classes),
          tooltip);
  } else {
    shape(fmt::format("<polygon points=\"{}\" class=\"{}\"", list_of(outline(at, kind, radius)), classes), tooltip);
  }
}

void Svg::text(Point at, std::string_view text, std::string_view classes, Anchor anchor, double degrees,
               std::string_view tooltip) {
  if (text.empty()) return;
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" class=\"{}\"", coordinate(at.x), coordinate(at.y), classes);
  if (anchor != Anchor::start) body_ += fmt::format(" text-anchor=\"{}\"", name_of(anchor));
  if (degrees != 0)
    body_ += fmt::format(" transform=\"rotate({} {} {})\"", coordinate(degrees), coordinate(at.x), coordinate(at.y));
  body_ += '>' + escaped(text);
  if (!tooltip.empty()) body_ += "<title>" + escaped(tooltip) + "</title>";
  body_ += "</text>\n";
}

std::string Svg::markup() const { return body_ + "</svg>\n"; }

}  // namespace tandem::report
