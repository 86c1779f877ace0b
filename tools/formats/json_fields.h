#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::tools {

/// The object of a small JSON file, read field by field. Every error is Error(io) and names the file, the field, its
/// value and what is allowed. A field that is null counts as absent. Fields of nested objects are written "a.b".
class JsonFields {
 public:
  /// Throws Error(io) when the file is missing, larger than 16 MiB, or not a JSON object.
  static JsonFields read(const std::filesystem::path& path);

  [[nodiscard]] bool has(std::string_view name) const;

  /// Integer in [low, high]; `fallback` when absent, an error when there is none.
  [[nodiscard]] std::int64_t integer(std::string_view name, std::int64_t low, std::int64_t high,
                                     std::optional<std::int64_t> fallback = {}) const;
  /// Positive finite fp32; otherwise as integer().
  [[nodiscard]] float positive(std::string_view name, std::optional<float> fallback = {}) const;
  /// Number in [low, high]; an error when absent.
  [[nodiscard]] double number(std::string_view name, double low, double high) const;
  [[nodiscard]] bool boolean(std::string_view name, bool fallback) const;
  [[nodiscard]] std::string text(std::string_view name, const std::string& fallback) const;
  /// Array of strings; empty when absent.
  [[nodiscard]] std::vector<std::string> texts(std::string_view name) const;
  /// Non-empty array of distinct integers in [low, high].
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view name, std::int64_t low, std::int64_t high) const;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  struct Document;
  JsonFields() = default;
  [[noreturn]] void reject(std::string_view name, const std::string& allowed) const;

  std::filesystem::path path_;
  std::shared_ptr<const Document> document_;
};

}  // namespace tandem::tools
