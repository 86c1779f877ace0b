#include "tools/tandem/output.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "runtime/base/error.h"
#include "tools/tandem/command.h"

namespace tandem::cli {
namespace fs = std::filesystem;
namespace {

/// `path` without the slashes at its end, which would make "beside" a child.
fs::path trimmed(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

std::string os_reason() { return std::strerror(errno); }

/// `target` is what the file will be called, for messages.
void write_file(const fs::path& path, const fs::path& target, const std::string& text) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text << std::flush;
  const std::string reason = os_reason();
  file.close();
  TANDEM_CHECK(file, io, "cannot write ", target, ": ", reason);
}

}  // namespace

JsonOutput::JsonOutput(const std::string& path, std::string option) : path_(path), option_(std::move(option)) {
  if (path.empty() || is_stdout()) return;
  TANDEM_CHECK(!fs::is_directory(path_), io, option_, ": cannot write ", path_, ": it is a folder");
  if (fs::exists(path_) && !fs::is_regular_file(path_)) return;  // a device or pipe: nothing to rename over
  temporary_.emplace(path_);
  std::ofstream probe(temporary_->path(), std::ios::binary);
  TANDEM_CHECK(probe, io, option_, ": cannot write ", path_, ": ", os_reason());
}

void JsonOutput::write(const Json& value) {
  if (!path_.empty()) write_text(value.dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
}

void JsonOutput::write_text(const std::string& text) {
  if (path_.empty()) return;
  if (is_stdout()) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  if (!temporary_) return write_file(path_, path_, text);
  write_file(temporary_->path(), path_, text);
  std::error_code error;
  temporary_->rename_to_target(error);
  TANDEM_CHECK(!error, io, option_, ": cannot write ", path_, ": ", error.message());
  temporary_.reset();
}

OutputFolder::OutputFolder(const fs::path& path) : path_(trimmed(path)), staging_(path_) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(path_, error))) {
    TANDEM_CHECK(fs::is_directory(path_), io, "output folder ", path_, " exists and is not a folder");
    TANDEM_CHECK(fs::is_empty(path_, error) && !error, io, "output folder ", path_, " exists and is not empty");
  }
  fs::create_directory(staging_.path(), error);
  TANDEM_CHECK(!error, io, "cannot create output folder ", path_, ": ", error.message());
}

void OutputFolder::fill(const std::function<void(const fs::path&)>& write) {
  try {
    write(staging_.path());
  } catch (const Error& error) {
    std::string message = error.what();
    const std::string staging = staging_.path().string();
    for (auto at = message.find(staging); at != std::string::npos; at = message.find(staging))
      message.replace(at, staging.size(), path_.string());
    throw Error(error.code(), message);
  }
  commit();
}

void OutputFolder::commit() {
  std::error_code error;
  staging_.rename_to_target(error);
  TANDEM_CHECK(!error, io, "cannot create output folder ", path_, ": ", error.message());
}

void refuse_mixed(std::initializer_list<const JsonOutput*> outputs) {
  const auto count = std::count_if(outputs.begin(), outputs.end(), [](const auto* each) { return each->is_stdout(); });
  if (count > 1) throw UsageError("'-' is given for two outputs, which would mix; allowed: one of them");
}

void print(const JsonOutput& json, const std::string& text) {
  if (!json.is_stdout()) std::fwrite(text.data(), 1, text.size(), stdout);
}

void finish_stdout() {
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  TANDEM_CHECK(!failed, io, "cannot write to standard output: ", os_reason());
}

}  // namespace tandem::cli
