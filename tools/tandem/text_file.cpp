#include "tools/tandem/text_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/base/error.h"

namespace tandem::cli {

std::string read_text_file(const std::string& option, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  TANDEM_CHECK(file && !std::filesystem::is_directory(path), io, option, ": cannot read '", path, "'");
  return text;
}

}  // namespace tandem::cli
