#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace tandem::tools {

/// A regular file, open for reading: every file that a command reads is opened here. Pipes, which may never have a
/// writer, folders and devices are refused.
class InputFile {
 public:
  /// Throws Error(io) naming `path`, what it is and what is allowed, and before these the `option` that named it.
  explicit InputFile(const std::filesystem::path& path, const std::string& option = {});
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// All of it. Throws Error(io).
  [[nodiscard]] std::string text() const;

 private:
  std::string name_;  // in messages
  int descriptor_ = -1;
  std::size_t bytes_ = 0;
};

}  // namespace tandem::tools
