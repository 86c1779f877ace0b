#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "tools/probes/spread.h"

namespace tandem::probes {

using Json = nlohmann::ordered_json;

/// Of repeated measurements in one unit: quartiles, and how far the extremes are from them.
inline Json quartiles_of(const std::vector<double>& values) {
  return {{"min", quantile(values, 0)},    {"p25", quantile(values, 0.25)}, {"median", quantile(values, 0.5)},
          {"p75", quantile(values, 0.75)}, {"p99", quantile(values, 0.99)}, {"max", quantile(values, 1)},
          {"samples", values.size()}};
}

/// 10^9 bytes per second; 0 for no time, which an emulated device may report.
inline double gb_per_s(double bytes, double us) { return us > 0 ? bytes / us / 1000 : 0; }

}  // namespace tandem::probes
