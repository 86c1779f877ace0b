#include "tools/plan/catalog.h"

#include <algorithm>

#include "tools/plan/embedded_data.h"
#include "tools/plan/json_file.h"
#include "tools/plan/nearest_name.h"

namespace tandem::plan {
namespace {

namespace fs = std::filesystem;

bool is_path(const std::string& name) { return name.find('/') != std::string::npos || name.ends_with(".json"); }

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

template <typename Value>
const Value& found(const std::map<std::string, Value>& values, const std::string& name, const char* what) {
  const auto at = values.find(name);
  if (at != values.end()) return at->second;
  std::vector<std::string> names;
  for (const auto& [key, value] : values) names.push_back(key);
  const std::vector<std::string> nearest = nearest_names(name, names);
  TANDEM_CHECK(!nearest.empty(), invalid_argument, what, " '", name, "' is not known; allowed: ", joined(names),
               ", or a JSON file");
  fail(ErrorCode::invalid_argument, what, " '", name, "' is not known; nearest: ", joined(nearest),
       "; allowed: a name that 'tandem plan list' shows, or a JSON file");
}

}  // namespace

Catalog Catalog::built_in() {
  Catalog catalog;
  for (const EmbeddedFile& file : embedded_data()) {
    const std::string origin = concat("built-in ", file.folder, "/", file.name, ".json");
    catalog.add(file.folder, file.name, json_text(file.text, origin), origin);
  }
  return catalog;
}

void Catalog::add_folder(const fs::path& folder) {
  bool any = false;
  for (const char* kind : {"machines", "models", "published"}) {
    const fs::path inside = folder / kind;
    if (!fs::is_directory(inside)) continue;
    any = true;
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(inside))
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) add(kind, file.stem().string(), json_file(file), file.string());
  }
  TANDEM_CHECK(any, io, folder.string(), " has none of the folders machines, models, published");
}

void Catalog::add(const std::string& folder, const std::string& name, const Json& object, const std::string& origin) {
  if (folder == "machines") machines_.insert_or_assign(name, machine_from(object, origin));
  if (folder == "models") models_.insert_or_assign(name, shape_from(object, origin));
  if (folder == "published") published_.insert_or_assign(name, published_from(object, origin));
}

Machine Catalog::machine(const std::string& name) const {
  return is_path(name) ? load_machine(name) : found(machines_, name, "machine");
}

ModelShape Catalog::model(const std::string& name) const {
  return is_path(name) ? load_shape(name) : found(models_, name, "model");
}

}  // namespace tandem::plan
