#pragma once

#include <filesystem>
#include <system_error>

namespace tandem::cli {

/// The name of a file, or of a folder of files, beside the one that it will become. What lies there goes when this
/// object does, or when remove_temporaries() is called, unless it has got its name by then.
class TemporaryPath {
 public:
  /// Names a path that no other process uses, and creates nothing.
  explicit TemporaryPath(const std::filesystem::path& target);
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  ~TemporaryPath();

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Replaces a file, or an empty folder, of the target's name.
  void rename_to_target(std::error_code& error);

 private:
  std::filesystem::path path_, target_;
  int slot_;
};

/// Removes what lies at the paths of all objects, for a signal handler that ends the process: destructors run no more.
/// Async-signal-safe.
void remove_temporaries() noexcept;

}  // namespace tandem::cli
