#pragma once

#include <filesystem>
#include <string>

#include "tools/plan/figure.h"
#include "tools/plan/object_fields.h"

namespace tandem::plan {

/// Throws Error(io) when the file cannot be read and Error(invalid_argument) when it is not JSON; both name it.
Json json_file(const std::filesystem::path& path);

/// The same of a text; `origin` is named.
Json json_text(const std::string& text, const std::string& origin);

/// Reads the fields "schema" and "version", which must be these. Throws Error(invalid_argument).
void check_schema(ObjectFields& fields, const std::string& schema, int version);

}  // namespace tandem::plan
