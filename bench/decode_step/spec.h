#pragma once

#include <cstdint>
#include <string>

#include "tools/tandem/output.h"

namespace tandem::bench {

using cli::Json;

/// "lsh lsh_bits=10 lsh_tables=150": the kind, then the fields, as tables and pictures name it.
std::string selector_name(const Json& selector);

/// "4K" -> 4096, "1M" -> 1048576, "1000" -> 1000. Throws cli::UsageError naming `field`.
std::int64_t parse_tokens(const std::string& field, const std::string& text);

}  // namespace tandem::bench
