#pragma once

#include <string>

namespace tandem::cli {

/// The bytes of the file `path`, which `option` named. Throws Error(io) naming both.
std::string read_text_file(const std::string& option, const std::string& path);

}  // namespace tandem::cli
