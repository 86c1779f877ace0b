#pragma once

#include <vector>

#include "tools/tandem/output.h"
#include "tools/tandem/statistics.h"

namespace tandem::bench {

using cli::Json;

/// Of repeated measurements in one unit: quartiles, and how far the extremes are from them.
inline Json spread_of(const std::vector<double>& values) {
  return {{"min", cli::quantile(values, 0)},
          {"p25", cli::quantile(values, 0.25)},
          {"median", cli::quantile(values, 0.5)},
          {"p75", cli::quantile(values, 0.75)},
          {"p99", cli::quantile(values, 0.99)},
          {"max", cli::quantile(values, 1)},
          {"samples", values.size()}};
}

/// 10^9 bytes per second; 0 for no time, which an emulated device may report.
inline double gb_per_s(double bytes, double us) { return us > 0 ? bytes / us / 1000 : 0; }

}  // namespace tandem::bench
