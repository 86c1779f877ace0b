#pragma once

#include <string>

#include "lsh/cost_profile.h"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// Every field by its name.
Json costs_json(const lsh::CostProfile& costs);

/// {selector: host rows from which on it selects for the reference shape, or null: never}
Json crossovers_json(const lsh::CostProfile& costs);

/// Two tables: the costs, and from how many host rows on selectors select, each beside the built-in ones.
std::string costs_text(const lsh::CostProfile& costs);

}  // namespace tandem::cli
