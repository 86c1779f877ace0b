#include "tools/tandem/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tandem::cli {

double mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

double relative_error(const float* out, const double* exact, std::int64_t dim) {
  double difference = 0;
  double norm = 0;
  for (std::int64_t i = 0; i < dim; ++i) {
    difference += (out[i] - exact[i]) * (out[i] - exact[i]);
    norm += exact[i] * exact[i];
  }
  if (difference == 0) return 0;
  return std::sqrt(difference) / std::sqrt(norm);
}

}  // namespace tandem::cli
