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

}  // namespace tandem::probes
