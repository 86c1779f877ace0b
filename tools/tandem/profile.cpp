// tandem profile: measures what the parts of a step cost on this machine, as the file that --profile takes.
#include <memory>

#include <fmt/format.h>

#include "lsh/selection_cost.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"
#include "tools/tandem/profile_measure.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

struct ProfileOptions {
  CommonOptions common;
  std::string out;
  bool quick = false;
};

constexpr std::int64_t kLongest = std::int64_t{1} << 24;  // host rows; what pays only beyond never pays

Json json_of(const lsh::CostProfile& profile) {
  Json object = Json::object();
  for (const lsh::CostField& field : lsh::kCostFields) object[field.name] = profile.*field.value;
  return object;
}

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
std::int64_t crossover_of(const lsh::CostProfile& profile, const lsh::SelectorParams& params) {
  const auto rows = cpu::RowLayout::of(resolved({1, 4, 1, 128, 128, 0.f, 0.f}), DType::bf16);
  return lsh::SelectionCost(profile, params, rows, 4).crossover(kLongest);
}

std::string text_of(const lsh::CostProfile& profile) {
  const lsh::CostProfile built_in;
  Table figures({"figure", "measured", "built in"});
  for (const lsh::CostField& field : lsh::kCostFields)
    figures.add_row({field.name, short_number(profile.*field.value), short_number(built_in.*field.value)});
  Table crossovers({"selector", "selects from, in host rows", "built in"});
  const auto rows_text = [](std::int64_t rows) { return rows < 0 ? std::string("never") : std::to_string(rows); };
  for (const auto& [name, params] : selectors())
    crossovers.add_row({name, rows_text(crossover_of(profile, params)), rows_text(crossover_of(built_in, params))});
  return figures.text() + "\n" + crossovers.text();
}

void profile(const ProfileOptions& options) {
  JsonOutput json(options.common.json);
  JsonOutput out(options.out, "--out");
  ProfilePlan plan = options.quick ? ProfilePlan::quick() : ProfilePlan{};
  plan.common = options.common;
  Json machine;
  {
    auto config = td::make<td_config>();
    config.num_layers = config.num_q_heads = config.num_kv_heads = config.local_tokens = 1;
    config.head_dim_k = 64;
    apply(options.common, config);
    machine = describe(make_runtime(config));
  }
  plan.cache_bytes = last_level_cache_bytes(machine);
  constexpr std::int32_t kMostHeads = 64;  // every worker should have one, within reason
  plan.kv_heads = std::max(plan.kv_heads, std::min(kMostHeads, threads_of(machine)));
  const lsh::CostProfile measured = measure_profile(plan);

  Json crossovers = Json::object();
  for (const auto& [name, params] : selectors()) {
    const std::int64_t rows = crossover_of(measured, params);
    crossovers[name] = rows < 0 ? Json() : Json(rows);
  }
  if (!out.is_stdout()) print(json, text_of(measured));
  out.write(json_of(measured));
  json.write({{"profile", json_of(measured)},
              {"built_in", json_of({})},
              {"crossover_rows", crossovers},
              {"quick", options.quick},
              {"threads", threads_of(machine)},
              {"isa", isa_of(machine)},
              {"last_level_cache_bytes", plan.cache_bytes},
              {"version", td_version()}});
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  const auto options = std::make_shared<ProfileOptions>();
  CLI::App* command = app.add_subcommand("profile", "Measure what the parts of a step cost, for --profile");
  command->add_option("--out", options->out, "write the profile to this file; - is standard output");
  command->add_flag("--quick", options->quick, "shorter contexts, fewer steps: seconds, and rougher figures");
  add_common(*command, options->common, kThreads | kIsa | kJson | kMemory);
  command->footer(
      "A step attends to every row that it sees, exactly, where the profile predicts that its selector would take\n"
      "longer. Tandem has a built-in profile; measure one where the table below shows other figures, store it, and\n"
      "pass it to run, generate and eval with --profile FILE, or to the library as td_config.profile. Results depend\n"
      "on the stored profile alone: keep the file with them.\n"
      "\n"
      "Figures are nanoseconds of one worker, all workers at work and the caches emptied before every step, for GQA\n"
      "groups of 4, head_dim 128 and bf16 rows: per row of a dense pass, per gathered row, per code that a sketch\n"
      "scans, per row that topk scores, per row, id and bucket of LSH tables, and per selection beside all that.\n"
      "lsh_bit_agreement is a probability: how often a sign bit of a query equals that of a key. The second table\n"
      "says from how many rows of the host tier on a query selects (a selector that is cheaper by less than 10 %\n"
      "does not). Decode steps of made-up heads are timed; leave the machine alone meanwhile.\n"
      "Example:\n  tandem profile --out profile.json");
  add_profile_split(*command, action);
  command->callback([options, command, &action] {
    if (command->get_subcommands().empty()) action = [options] { profile(*options); };
  });
}

}  // namespace tandem::cli
