#pragma once

#include <string>

#include "tools/tandem/output.h"

namespace tandem::cli {

/// The report of `tandem eval window` as a table with a line for dense attention, and why cells were refused.
std::string eval_window_text(const Json& report);

}  // namespace tandem::cli
