#include "tools/plan/least_squares.h"

#include <cmath>
#include <cstddef>
#include <utility>

namespace tandem::plan {
namespace {

using Matrix = std::vector<std::vector<double>>;

/// Solves a x = b for a symmetric positive definite `a` by elimination.
std::vector<double> solved(Matrix a, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j) {
      const double factor = a[j][i] / a[i][i];
      for (std::size_t k = i; k < n; ++k) a[j][k] -= factor * a[i][k];
      b[j] -= factor * b[i];
    }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  return b;
}

/// Derivatives of all residuals by the logarithm of each parameter.
Matrix derivatives(const Residuals& residuals, const std::vector<double>& at, const std::vector<double>& here) {
  constexpr double kStep = 1e-4;
  Matrix by_parameter;
  for (std::size_t p = 0; p < at.size(); ++p) {
    std::vector<double> moved = at;
    moved[p] *= std::exp(kStep);
    std::vector<double> slope = residuals(moved);
    for (std::size_t i = 0; i < slope.size(); ++i) slope[i] = (slope[i] - here[i]) / kStep;
    by_parameter.push_back(std::move(slope));
  }
  return by_parameter;
}

std::vector<double> stepped(const std::vector<double>& at, const Matrix& slopes, const std::vector<double>& here,
                            double damping) {
  const std::size_t n = at.size();
  Matrix normal(n, std::vector<double>(n, 0));
  std::vector<double> right(n, 0);
  for (std::size_t p = 0; p < n; ++p) {
    for (std::size_t i = 0; i < here.size(); ++i) right[p] -= slopes[p][i] * here[i];
    for (std::size_t q = 0; q < n; ++q)
      for (std::size_t i = 0; i < here.size(); ++i) normal[p][q] += slopes[p][i] * slopes[q][i];
  }
  for (std::size_t p = 0; p < n; ++p) normal[p][p] += damping * (normal[p][p] + 1e-12);
  const std::vector<double> step = solved(std::move(normal), std::move(right));
  std::vector<double> moved = at;
  for (std::size_t p = 0; p < n; ++p) moved[p] *= std::exp(std::fmax(-2.0, std::fmin(2.0, step[p])));
  return moved;
}

}  // namespace

double sum_of_squares(const std::vector<double>& values) noexcept {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return sum;
}

std::vector<double> least_squares(const Residuals& residuals, std::vector<double> start) {
  constexpr int kMostSteps = 200;
  constexpr double kLeastGain = 1e-10;
  std::vector<double> here = residuals(start);
  double damping = 1e-3;
  for (int step = 0; step < kMostSteps && damping < 1e9; ++step) {
    const std::vector<double> moved = stepped(start, derivatives(residuals, start, here), here, damping);
    std::vector<double> there = residuals(moved);
    const double gain = sum_of_squares(here) - sum_of_squares(there);
    if (!(gain > 0)) {  // also where it became NaN
      damping *= 10;
      continue;
    }
    const bool done = gain < kLeastGain * sum_of_squares(here);
    start = moved;
    here = std::move(there);
    damping /= 10;
    if (done) break;
  }
  return start;
}

}  // namespace tandem::plan
