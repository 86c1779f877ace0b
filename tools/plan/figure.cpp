#include "tools/plan/figure.h"

#include <algorithm>
#include <cmath>

#include "tools/plan/object_fields.h"

namespace tandem::plan {
namespace {

constexpr const char* kKindNames[] = {"measured", "published", "assumed"};
constexpr int kMostRuns = 1'000'000;

FigureKind kind_from(const std::string& name, const std::string& path) {
  const auto* const found = std::find(std::begin(kKindNames), std::end(kKindNames), name);
  TANDEM_CHECK(found != std::end(kKindNames), invalid_argument, path, ".kind is '", name,
               "'; allowed: measured, published, assumed");
  return static_cast<FigureKind>(found - std::begin(kKindNames));
}

}  // namespace

const char* to_string(FigureKind kind) noexcept { return kKindNames[static_cast<int>(kind)]; }

Figure figure_of(double value, double relative_range, FigureKind kind, std::string source) {
  return {value, value * (1 - relative_range), value * (1 + relative_range), kind, std::move(source)};
}

Figure merged(const Figure& a, const Figure& b) {
  Figure both = a;
  both.runs = a.runs + b.runs;
  both.value = (a.value * a.runs + b.value * b.runs) / both.runs;
  both.low = std::min(a.low, b.low);
  both.high = std::max(a.high, b.high);
  return both;
}

Json to_json(const Figure& figure) {
  Json object = {{"value", figure.value}};
  if (figure.low != figure.value) object["low"] = figure.low;
  if (figure.high != figure.value) object["high"] = figure.high;
  object["kind"] = to_string(figure.kind);
  if (!figure.source.empty()) object["source"] = figure.source;
  if (figure.runs != 1) object["runs"] = figure.runs;
  return object;
}

Figure figure_from(const Json& object, const std::string& path, double least, double most) {
  ObjectFields fields(object, path);
  Figure figure;
  figure.value = fields.number("value", least, most);
  figure.low = fields.number("low", least, most, figure.value);
  figure.high = fields.number("high", least, most, figure.value);
  figure.kind = kind_from(fields.text("kind"), path);
  figure.source = fields.text("source", "");
  figure.runs = static_cast<int>(fields.integer("runs", 1, kMostRuns, 1));
  fields.reject_others();
  TANDEM_CHECK(figure.low <= figure.value && figure.value <= figure.high, invalid_argument, path, ".value is ",
               figure.value, "; it must lie between low, which is ", figure.low, ", and high, which is ", figure.high);
  return figure;
}

}  // namespace tandem::plan
