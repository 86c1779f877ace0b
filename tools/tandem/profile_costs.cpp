#include "tools/tandem/profile_costs.h"

#include <vector>

#include "lsh/selection_cost.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kLongest = std::int64_t{1} << 24;  // host rows; what pays only beyond never pays

struct NamedSelector {
  const char* name;
  lsh::SelectorParams params;
};

std::vector<NamedSelector> selectors() {
  return {{"sketch 0.02", lsh::SketchParams{}},
          {"sketch 0.02, 1 bit", lsh::SketchParams{.bits_per_dim = 1}},
          {"sketch 0.1", lsh::SketchParams{.budget = 0.1}},
          {"sketch error 0.1", lsh::SketchParams{.error = 0.1}},
          {"sketch topk 0.02", lsh::SketchParams{.top_k = true}},
          {"lsh 10,150", lsh::LshParams{}},
          {"lsh 8,75", lsh::LshParams{.bits_per_table = 8, .num_tables = 75}},
          {"topk 0.02", lsh::TopKParams{}}};
}

/// Host rows from which on each selector selects, for the reference shape; -1: never.
std::int64_t crossover_of(const lsh::CostProfile& costs, const lsh::SelectorParams& params) {
  const auto rows = cpu::RowLayout::of(resolved({1, 4, 1, 128, 128, 0.f, 0.f}), DType::bf16);
  return lsh::SelectionCost(costs, params, rows, 4).crossover(kLongest);
}

}  // namespace

Json costs_json(const lsh::CostProfile& costs) {
  Json object = Json::object();
  for (const lsh::CostField& field : lsh::kCostFields) object[field.name] = costs.*field.value;
  return object;
}

Json crossovers_json(const lsh::CostProfile& costs) {
  Json object = Json::object();
  for (const auto& [name, params] : selectors()) {
    const std::int64_t rows = crossover_of(costs, params);
    object[name] = rows < 0 ? Json() : Json(rows);
  }
  return object;
}

std::string costs_text(const lsh::CostProfile& costs) {
  const lsh::CostProfile built_in;
  Table figures({"step cost", "measured", "built in"});
  for (const lsh::CostField& field : lsh::kCostFields)
    figures.add_row({field.name, short_number(costs.*field.value), short_number(built_in.*field.value)});
  Table crossovers({"selector", "selects from, in host rows", "built in"});
  const auto rows_text = [](std::int64_t rows) { return rows < 0 ? std::string("never") : std::to_string(rows); };
  for (const auto& [name, params] : selectors())
    crossovers.add_row({name, rows_text(crossover_of(costs, params)), rows_text(crossover_of(built_in, params))});
  return figures.text() + "\n" + crossovers.text();
}

}  // namespace tandem::cli
