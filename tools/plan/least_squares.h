#pragma once

#include <functional>
#include <vector>

namespace tandem::plan {

/// Residuals of a model with these parameters; always as many.
using Residuals = std::function<std::vector<double>(const std::vector<double>&)>;

/// Parameters, all above 0 like `start`, for which the sum of squared residuals is as small as it gets downhill from
/// `start`: damped Gauss-Newton steps in the parameters' logarithms (Levenberg-Marquardt).
std::vector<double> least_squares(const Residuals& residuals, std::vector<double> start);

double sum_of_squares(const std::vector<double>& values) noexcept;

}  // namespace tandem::plan
