#include "tools/plan/published.h"

#include "tools/plan/json_file.h"
#include "tools/plan/object_fields.h"

namespace tandem::plan {
namespace {

constexpr const char* kSchema = "tandem-published";
constexpr double kMostTokens = 1e9;

StepSettings settings_from(const Json& object, const std::string& path, Method method) {
  ObjectFields fields(object, path);
  StepSettings s;
  s.method = method;
  s.window = fields.integer("window", 1, 1 << 24, s.window);
  s.dense_layers = static_cast<int>(fields.integer("dense_layers", 0, 10'000, s.dense_layers));
  s.budget = fields.number("budget", 1e-9, 1, s.budget);
  s.sketch_bits = static_cast<int>(fields.integer("sketch_bits", 1, 2, s.sketch_bits));
  s.lsh_bits = static_cast<int>(fields.integer("lsh_bits", 1, 12, s.lsh_bits));
  s.lsh_tables = static_cast<int>(fields.integer("lsh_tables", 1, 300, s.lsh_tables));
  fields.reject_others();
  return s;
}

bool flag_from(ObjectFields& fields, const std::string& name) {
  const Json* const field = fields.find(name);
  if (field == nullptr) return false;
  TANDEM_CHECK(field->is_boolean(), invalid_argument, fields.path(), ".", name, " is ", field->dump(),
               "; it must be true or false");
  return field->get<bool>();
}

PublishedPoint point_from(const Json& object, const std::string& path, const StepSettings& settings, bool seconds) {
  ObjectFields fields(object, path);
  PublishedPoint point;
  point.model = fields.text("model");
  point.settings = settings;
  point.settings.context = fields.integer("context", 1, std::int64_t{1} << 31);
  point.settings.batch = static_cast<int>(fields.integer("batch", 1, 65536));
  const double value = fields.number("value", 1 / kMostTokens, kMostTokens);
  point.tokens_per_s = seconds ? point.settings.batch / value : value;
  point.fit = flag_from(fields, "fit");
  point.unexplained = fields.text("unexplained", "");
  fields.reject_others();
  return point;
}

}  // namespace

PublishedSeries published_from(const Json& object, const std::string& origin) {
  ObjectFields fields(object, origin);
  check_schema(fields, kSchema, 1);
  PublishedSeries series;
  series.name = fields.text("name");
  series.source = fields.text("source");
  series.machine = fields.text("machine");
  const Method method = method_from(fields.text("method"), origin + ".method");
  const StepSettings settings = settings_from(fields.at("settings"), origin + ".settings", method);
  const std::string unit = fields.text("unit");
  TANDEM_CHECK(unit == "tokens_per_s" || unit == "s_per_token", invalid_argument, origin, ".unit is '", unit,
               "'; allowed: tokens_per_s, s_per_token");
  const Json& points = fields.at("points");
  TANDEM_CHECK(points.is_array() && !points.empty(), invalid_argument, origin, ".points is ", points.type_name(),
               "; it must be an array of at least one point");
  for (std::size_t i = 0; i < points.size(); ++i)
    series.points.push_back(point_from(points[i], concat(origin, ".points[", i, "]"), settings, unit == "s_per_token"));
  fields.reject_others();
  return series;
}

}  // namespace tandem::plan
