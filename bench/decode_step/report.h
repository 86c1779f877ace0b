#pragma once

#include <string>

#include "bench/decode_step/spec.h"

namespace tandem::bench {

/// One line per row of the report.
std::string table_of(const Json& rows);

/// What a result says about where it comes from: processor, kernel, memory, caches.
Json machine_json(const Json& described);

}  // namespace tandem::bench
