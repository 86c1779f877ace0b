#pragma once

#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include "runtime/base/dtype.h"
#include "runtime/base/error.h"

namespace tandem {

/// Reads the fields of one JSON object and remembers which exist, so that a misspelt one is an error.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string path) : object_(object), path_(std::move(path)) {
    TANDEM_CHECK(object.is_object(), invalid_argument, path_, " is ", object.type_name(), "; it must be an object");
  }

  /// 0 keeps the default that `value` holds, as in td_config.
  template <typename T>
  void read_unless_zero(const char* name, T& value) {
    T given{};
    read(name, given);
    if (given != T{}) value = given;
  }
  template <typename T>
  void read(const char* name, T& value) {
    const nlohmann::json* field = find(name);
    if (field == nullptr) return;
    const bool fits = std::is_same_v<T, std::string> ? field->is_string()
                      : std::is_same_v<T, bool>      ? field->is_boolean()
                      : std::is_integral_v<T>        ? field->is_number_integer()
                                                     : field->is_number();
    TANDEM_CHECK(fits, invalid_argument, path_, ".", name, " is ", field->dump(), "; it must be ",
                 std::is_same_v<T, std::string> ? "a string"
                 : std::is_same_v<T, bool>      ? "true or false"
                 : std::is_integral_v<T>        ? "an integer"
                                                : "a number");
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) check_range<T>(name, *field);
    value = field->get<T>();
  }
  void read(const char* name, DType& value) {
    std::string text = to_string(value);
    read(name, text);
    value = parse_dtype(path_ + "." + name, text);
  }
  void read_row_format(const char* name, DType& value) {
    std::string text = to_string(value);
    read(name, text);
    value = parse_row_format(path_ + "." + name, text);
  }
  const nlohmann::json* find(const char* name) {
    known_.insert(name);
    const auto it = object_.find(name);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  void reject_others() const {
    for (const auto& [name, value] : object_.items()) {
      if (known_.contains(name)) continue;
      std::string allowed;
      for (const auto& known : known_) allowed += (allowed.empty() ? "" : ", ") + known;
      fail(ErrorCode::invalid_argument, path_, ".", name, " is not a field; allowed: ", allowed);
    }
  }

 private:
  template <typename T>
  void check_range(const char* name, const nlohmann::json& field) const {
    bool fits = true;
    if (field.is_number_unsigned()) {
      fits = field.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<T>::max());
    } else {
      fits =
          std::is_signed_v<T> && field.get<std::int64_t>() >= static_cast<std::int64_t>(std::numeric_limits<T>::min());
    }
    TANDEM_CHECK(fits, invalid_argument, path_, ".", name, " is ", field.dump(),
                 "; allowed: ", std::numeric_limits<T>::min(), " to ", std::numeric_limits<T>::max());
  }

  const nlohmann::json& object_;
  std::string path_;
  std::set<std::string> known_;
};

}  // namespace tandem
