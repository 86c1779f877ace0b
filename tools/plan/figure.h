#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace tandem::plan {

/// Keys keep the order in which they were added, so that a file reads in its natural order.
using Json = nlohmann::ordered_json;

/// How a figure is known. What follows from figures is no better known than the worst of them: measured < published <
/// assumed.
enum class FigureKind {
  measured,   ///< on the machine itself
  published,  ///< by its maker, or by somebody who measured and said how
  assumed,    ///< by us, from what is known of similar machines
};

const char* to_string(FigureKind kind) noexcept;

/// One property of a machine: what it is, between which bounds it may lie, how that is known and from whom.
/// low <= value <= high; the unit is part of the name under which a figure is kept.
struct Figure {
  double value = 0;
  double low = 0;
  double high = 0;
  FigureKind kind = FigureKind::assumed;
  std::string source;  ///< of published figures: document or page; of measured ones: command; of assumed ones: why
  int runs = 1;        ///< measured: independent runs that [low, high] spans

  friend bool operator==(const Figure&, const Figure&) = default;
};

/// A figure whose bounds are given as a share of it, as in 0.1 for +- 10 %.
Figure figure_of(double value, double relative_range, FigureKind kind, std::string source);

/// Another measurement of the same thing: the value is the mean over all runs, the bounds span both.
Figure merged(const Figure& a, const Figure& b);

/// {"value", "low", "high", "kind", "source", "runs"}; bounds equal to the value and runs of 1 are left out.
Json to_json(const Figure& figure);

/// Reads what to_json writes. Throws Error(invalid_argument) naming `path`, the value and what is allowed for fields
/// that are missing, unknown, of another type, outside [least, most], or not in order.
Figure figure_from(const Json& object, const std::string& path, double least, double most);

}  // namespace tandem::plan
