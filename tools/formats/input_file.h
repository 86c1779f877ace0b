#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
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

  /// Its size when it was opened.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// All of it, or as much as is there. Throws Error(io).
  [[nodiscard]] std::string text() const;
  /// Fills `target` with what stands at byte `offset`. Throws Error(io) naming `what`, the bytes wanted and those that
  /// are there: a file may become shorter after it was opened.
  void read(std::size_t offset, std::span<std::byte> target, const std::string& what) const;

 private:
  /// Bytes read, fewer than wanted where the file ends.
  [[nodiscard]] std::size_t read_some(std::size_t offset, std::span<std::byte> target) const;

  std::string name_;  // in messages
  int descriptor_ = -1;
  std::size_t bytes_ = 0;
};

}  // namespace tandem::tools
