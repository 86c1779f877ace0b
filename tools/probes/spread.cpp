#include "tools/probes/spread.h"

#include <algorithm>
#include <cmath>

namespace tandem::probes {

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back(), static_cast<int>(values.size())};
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto rank = static_cast<std::ptrdiff_t>(std::ceil(share * static_cast<double>(values.size()))) - 1;
  const auto nth = values.begin() + std::max<std::ptrdiff_t>(rank, 0);
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

}  // namespace tandem::probes
