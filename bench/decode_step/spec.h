#pragma once

#include <cstdint>
#include <string>

#include "tools/tandem/output.h"

namespace tandem::bench {

using cli::Json;

/// A selector as the command line writes it, as the JSON object that td_create_json takes. Either JSON itself, or
/// KIND[:FIELD=VALUE[,FIELD=VALUE..]], as in "lsh:lsh_bits=10,lsh_tables=150"; values that are no number are strings.
/// Which kinds and fields exist is the library's business. Throws cli::UsageError for text that is neither.
Json parse_selector(const std::string& text);

/// "lsh lsh_bits=10 lsh_tables=150": the kind, then the fields, as tables and pictures name it.
std::string selector_name(const Json& selector);

/// "4K" -> 4096, "1M" -> 1048576, "1000" -> 1000. Throws cli::UsageError naming `field`.
std::int64_t parse_tokens(const std::string& field, const std::string& text);

}  // namespace tandem::bench
