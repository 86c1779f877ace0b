#pragma once

#include <cstdint>
#include <string>

#include "tools/tandem/output.h"

namespace tandem::bench {

using cli::Json;

/// "lsh lsh_bits=10 lsh_tables=150": the kind, then the fields, as tables and pictures name it.
std::string selector_name(const Json& selector);

}  // namespace tandem::bench
