#include "tools/formats/json_fields.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "tools/formats/input_file.h"

namespace tandem::tools {

using Json = nlohmann::json;

struct JsonFields::Document {
  Json root;

  /// The value of "a.b"; nullptr when a step of the way is absent, null or no object.
  [[nodiscard]] const Json* find(std::string_view name) const {
    const Json* value = &root;
    while (true) {
      const std::size_t dot = name.find('.');
      if (!value->is_object()) return nullptr;
      const auto entry = value->find(std::string(name.substr(0, dot)));
      if (entry == value->end() || entry->is_null()) return nullptr;
      value = &*entry;
      if (dot == std::string_view::npos) return value;
      name.remove_prefix(dot + 1);
    }
  }
};

namespace {

constexpr std::size_t kMaxBytes = std::size_t{16} << 20;

std::string read_text(const std::filesystem::path& path) {
  const InputFile file(path);
  TANDEM_CHECK(file.bytes() <= kMaxBytes, io, path.string(), ": larger than the ", kMaxBytes, " bytes allowed");
  return file.text();
}

/// False for values that JSON holds but int64 does not, and for 3.0.
bool in_range(const Json& value, std::int64_t low, std::int64_t high) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) return false;
  return value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high;
}

/// Long values and bytes that are no UTF-8 must not spoil a message.
std::string dump(const Json& value) {
  constexpr std::size_t kShown = 80;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kShown) text = text.substr(0, kShown) + "...";
  return text;
}

}  // namespace

JsonFields JsonFields::read(const std::filesystem::path& path) {
  JsonFields fields;
  fields.path_ = path;
  const std::string text = read_text(path);
  Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  TANDEM_CHECK(root.is_object(), io, path.string(), ": not a JSON object");
  fields.document_ = std::make_shared<const Document>(Document{std::move(root)});
  return fields;
}

void JsonFields::reject(std::string_view name, const std::string& allowed) const {
  const Json* value = document_->find(name);
  fail(ErrorCode::io, path_.string(), ": ", name, " is ", value == nullptr ? "missing" : dump(*value),
       "; allowed: ", allowed);
}

bool JsonFields::has(std::string_view name) const { return document_->find(name) != nullptr; }

std::int64_t JsonFields::integer(std::string_view name, std::int64_t low, std::int64_t high,
                                 std::optional<std::int64_t> fallback) const {
  const Json* value = document_->find(name);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !in_range(*value, low, high)) reject(name, concat("an integer from ", low, " to ", high));
  return value->get<std::int64_t>();
}

float JsonFields::positive(std::string_view name, std::optional<float> fallback) const {
  const Json* value = document_->find(name);
  if (value == nullptr && fallback) return *fallback;
  const bool number = value != nullptr && value->is_number();
  // Compared as double: converting a double beyond fp32's range to float is undefined.
  const double wide = number ? value->get<double>() : 0.0;
  if (!(wide >= 1e-37 && wide <= 3e38)) reject(name, "a positive number that fp32 can hold");
  return static_cast<float>(wide);
}

double JsonFields::number(std::string_view name, double low, double high) const {
  const Json* value = document_->find(name);
  const double number = value != nullptr && value->is_number() ? value->get<double>() : high + 1;
  if (!(number >= low && number <= high)) reject(name, concat("a number from ", low, " to ", high));
  return number;
}

bool JsonFields::boolean(std::string_view name, bool fallback) const {
  const Json* value = document_->find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) reject(name, "true or false");
  return value->get<bool>();
}

std::string JsonFields::text(std::string_view name, const std::string& fallback) const {
  const Json* value = document_->find(name);
  if (value == nullptr) return fallback;
  if (!value->is_string()) reject(name, "a string");
  return value->get<std::string>();
}

std::vector<std::string> JsonFields::texts(std::string_view name) const {
  const Json* value = document_->find(name);
  if (value == nullptr) return {};
  const bool strings = value->is_array() &&
                       std::all_of(value->begin(), value->end(), [](const Json& entry) { return entry.is_string(); });
  if (!strings) reject(name, "an array of strings");
  return value->get<std::vector<std::string>>();
}

std::vector<std::int64_t> JsonFields::integers(std::string_view name, std::int64_t low, std::int64_t high) const {
  const std::string allowed = concat("an array of at least one and only distinct integers from ", low, " to ", high);
  const Json* value = document_->find(name);
  if (value == nullptr || !value->is_array() || value->empty()) reject(name, allowed);
  std::set<std::int64_t> seen;
  std::vector<std::int64_t> numbers;
  for (const Json& entry : *value) {
    if (!in_range(entry, low, high) || !seen.insert(entry.get<std::int64_t>()).second) reject(name, allowed);
    numbers.push_back(entry.get<std::int64_t>());
  }
  return numbers;
}

}  // namespace tandem::tools
