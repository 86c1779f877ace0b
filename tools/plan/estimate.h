#pragma once

#include <string>

#include "tools/plan/figure.h"

namespace tandem::plan {

/// A predicted figure and the bounds between which it should lie. low <= value <= high.
struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// A predicted figure when every rate of a machine is as expected, at its worst bound, and at its best one.
enum class Bound { expected, worst, best };
inline constexpr Bound kBounds[] = {Bound::expected, Bound::worst, Bound::best};

/// The figure's value, or the bound that makes things slow or fast. Of rates more is better, of times less.
inline double rate_at(const Figure& figure, Bound bound) noexcept {
  return bound == Bound::expected ? figure.value : bound == Bound::worst ? figure.low : figure.high;
}
inline double time_at(const Figure& figure, Bound bound) noexcept {
  return bound == Bound::expected ? figure.value : bound == Bound::worst ? figure.high : figure.low;
}

/// What follows from both figures is no better known than the worse of them.
inline FigureKind worse(FigureKind a, FigureKind b) noexcept { return a > b ? a : b; }

}  // namespace tandem::plan
