#pragma once

#include <string>

#include "tools/report/scale.h"

namespace tandem::report {

/// A tick at a multiple of `step` > 0, with as many decimals as tell it from its neighbours.
std::string tick_text(double value, double step, Numbers numbers);

}  // namespace tandem::report
