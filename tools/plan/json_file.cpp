#include "tools/plan/json_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

namespace tandem::plan {

Json json_text(const std::string& text, const std::string& origin) {
  Json value = Json::parse(text, nullptr, false);
  TANDEM_CHECK(!value.is_discarded(), invalid_argument, origin, " is not JSON");
  return value;
}

Json json_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  TANDEM_CHECK(file.good(), io, "cannot read ", path.string(), ": ", std::strerror(errno));
  TANDEM_CHECK(!std::filesystem::is_directory(path), io, "cannot read ", path.string(), ": ", std::strerror(EISDIR));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  TANDEM_CHECK(!file.bad(), io, "cannot read ", path.string(), ": ", std::strerror(errno));
  return json_text(text, path.string());
}

void check_schema(ObjectFields& fields, const std::string& schema, int version) {
  const std::string found = fields.text("schema", "");
  TANDEM_CHECK(found == schema, invalid_argument, fields.path(), ".schema is '", found, "'; allowed: ", schema);
  fields.integer("version", version, version);
}

}  // namespace tandem::plan
