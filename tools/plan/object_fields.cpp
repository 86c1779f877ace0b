#include "tools/plan/object_fields.h"

#include <cmath>

namespace tandem::plan {

ObjectFields::ObjectFields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  TANDEM_CHECK(object.is_object(), invalid_argument, path_, " is ", object.type_name(), "; it must be an object");
}

const ObjectFields::Json* ObjectFields::find(const std::string& name) {
  known_.insert(name);
  const auto field = object_.find(name);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

const ObjectFields::Json& ObjectFields::at(const std::string& name) {
  const Json* const field = find(name);
  TANDEM_CHECK(field != nullptr, invalid_argument, path_, ".", name, " is missing");
  return *field;
}

double ObjectFields::number(const std::string& name, double least, double most, std::optional<double> fallback) {
  if (fallback && find(name) == nullptr) return *fallback;
  const Json& field = at(name);
  const double value = field.is_number() ? field.get<double>() : std::nan("");
  TANDEM_CHECK(value >= least && value <= most, invalid_argument, path_, ".", name, " is ", field.dump(),
               "; allowed: a number from ", least, " to ", most);
  return value;
}

std::int64_t ObjectFields::integer(const std::string& name, std::int64_t least, std::int64_t most,
                                   std::optional<std::int64_t> fallback) {
  if (fallback && find(name) == nullptr) return *fallback;
  const Json& field = at(name);
  // A double holds every bound that is asked for exactly, and no integer of any width is cut before it is judged.
  const double value = field.is_number_integer() ? field.get<double>() : std::nan("");
  TANDEM_CHECK(value >= static_cast<double>(least) && value <= static_cast<double>(most), invalid_argument, path_, ".",
               name, " is ", field.dump(), "; allowed: a whole number from ", least, " to ", most);
  return field.get<std::int64_t>();
}

std::string ObjectFields::text(const std::string& name, std::optional<std::string> fallback) {
  if (fallback && find(name) == nullptr) return *fallback;
  const Json& field = at(name);
  TANDEM_CHECK(field.is_string(), invalid_argument, path_, ".", name, " is ", field.dump(), "; it must be a string");
  return field.get<std::string>();
}

void ObjectFields::reject_others() const {
  for (const auto& [name, value] : object_.items()) {
    if (known_.contains(name)) continue;
    std::string allowed;
    for (const auto& known : known_) allowed += (allowed.empty() ? "" : ", ") + known;
    fail(ErrorCode::invalid_argument, path_, ".", name, " is not a field; allowed: ", allowed);
  }
}

}  // namespace tandem::plan
