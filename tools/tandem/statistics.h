#pragma once

#include <cstdint>
#include <vector>

#include "tools/probes/spread.h"

namespace tandem::cli {

/// 0 when there are no values.
double mean(const std::vector<double>& values);

using probes::quantile;

/// part / whole; 0 unless the whole is positive.
double ratio(double part, double whole);

/// ||out - exact|| / ||exact|| of one query head: 0 when they are equal, infinite when only `exact` is zero.
double relative_error(const float* out, const double* exact, std::int64_t dim);

}  // namespace tandem::cli
