#pragma once

#include <vector>

namespace tandem::probes {

/// Repeated measurements of one thing: the median and the extremes.
struct Spread {
  double median = 0;
  double low = 0;
  double high = 0;
  int samples = 0;
};

/// All zero of nothing. The median of an even number of values is the mean of the middle two.
Spread spread_of(std::vector<double> values);

/// The smallest value that at least `share` of the values do not exceed; 0 when there are none.
double quantile(std::vector<double> values, double share);

}  // namespace tandem::probes
