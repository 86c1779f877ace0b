#pragma once

#include <cmath>

namespace tandem::testing {

/// Mean, variance and standard error of what is added.
struct Moments {
  double sum = 0, square = 0;
  int count = 0;
  void add(double x) {
    sum += x;
    square += x * x;
    ++count;
  }
  [[nodiscard]] double mean() const { return sum / count; }
  [[nodiscard]] double variance() const { return (square - sum * sum / count) / (count - 1); }
  [[nodiscard]] double standard_error() const { return std::sqrt(variance() / count); }
};

}  // namespace tandem::testing
