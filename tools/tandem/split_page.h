#pragma once

#include <string>

#include "tools/tandem/split_report.h"

namespace tandem::cli {

/// The report of a sweep as one page of HTML: what to take and why, each context's splits as error against time and as
/// a table, predictions against measurements, and the machine.
std::string html_of(const SplitReport& report);

}  // namespace tandem::cli
