#pragma once

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "tools/tandem/temporary_path.h"

namespace tandem::cli {

/// Keys keep the order in which they were added, so that a report reads in its natural order.
using Json = nlohmann::ordered_json;

/// Where --json F (or another option) goes. The constructor finds out whether F can be written at all, before any work
/// is done; the file then appears whole or not at all. An empty path means no output, "-" standard output.
class JsonOutput {
 public:
  /// Throws Error(io) naming the path and the reason.
  explicit JsonOutput(const std::string& path, std::string option = "--json");
  JsonOutput(const JsonOutput&) = delete;
  JsonOutput& operator=(const JsonOutput&) = delete;

  [[nodiscard]] bool is_stdout() const noexcept { return path_ == "-"; }
  /// Throws Error(io). Bytes that are not UTF-8 become U+FFFD; numbers that are not finite become null.
  void write(const Json& value);
  /// Other text, such as a page of HTML. Throws Error(io).
  void write_text(const std::string& text);

 private:
  std::filesystem::path path_;
  std::string option_;
  std::optional<TemporaryPath> temporary_;
};

/// A folder that appears under its name only when fill() has written all of it; until then it lies
/// beside it.
class OutputFolder {
 public:
  /// Throws Error(io) when `path` exists and is not an empty folder, or cannot be created.
  explicit OutputFolder(const std::filesystem::path& path);
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// Has `write` fill an empty folder, which then gets its name. An Error of `write` names that too, not where the
  /// files lay before.
  void fill(const std::function<void(const std::filesystem::path&)>& write);

 private:
  void commit();

  std::filesystem::path path_;
  TemporaryPath staging_;
};

/// Throws UsageError when more than one of `outputs` is standard output.
void refuse_mixed(std::initializer_list<const JsonOutput*> outputs);

/// Prints to standard output; nothing when `json` has it. Throws Error(io) when the text cannot be written.
void print(const JsonOutput& json, const std::string& text);

/// Flushes standard output and throws Error(io) if any of it was lost (a full disk, say).
void finish_stdout();

}  // namespace tandem::cli
