#pragma once

#include <string>

#include "tools/plan/machine.h"

namespace tandem::cli {

/// What was measured of a machine as one page of HTML: its figures with their ranges, bandwidths side by side, a
/// roofline with this library's kernels, and what could not be measured as it should be.
std::string html_of(const plan::Machine& machine);

}  // namespace tandem::cli
