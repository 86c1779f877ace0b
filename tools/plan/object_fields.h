#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"

namespace tandem::plan {

/// Reads the fields of one JSON object and remembers which it was asked for, so that a misspelt one is an error. Every
/// error is Error(invalid_argument) and names the field by its path, its value and what is allowed. A field that is
/// null counts as absent; one that is absent and has no fallback is an error. The object outlives this reader.
class ObjectFields {
 public:
  using Json = nlohmann::ordered_json;

  ObjectFields(const Json& object, std::string path);

  /// nullptr when absent.
  const Json* find(const std::string& name);
  const Json& at(const std::string& name);
  double number(const std::string& name, double least, double most, std::optional<double> fallback = {});
  std::int64_t integer(const std::string& name, std::int64_t least, std::int64_t most,
                       std::optional<std::int64_t> fallback = {});
  std::string text(const std::string& name, std::optional<std::string> fallback = {});
  /// Throws for fields that nobody asked for.
  void reject_others() const;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  const Json& object_;
  std::string path_;
  std::set<std::string> known_;
};

}  // namespace tandem::plan
