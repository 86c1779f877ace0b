#pragma once

#include <string>

#include "tools/tandem/cli_fwd.h"

namespace tandem::cli {

/// What to tell somebody whose command line `app` refused: for an unknown word the command, the word, the option that
/// looks most like it, and where to read on; otherwise what the parser says.
std::string usage_text(const CLI::App& app, const CLI::ParseError& error);

}  // namespace tandem::cli
