// tandem plan list: the machines and models that are known by name, with figures and sources.
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/tandem/plan_commands.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

std::string figure_text(const std::optional<plan::Figure>& figure) {
  if (!figure) return "-";
  return short_number(figure->value) + (figure->kind == plan::FigureKind::assumed ? "?" : "");
}

template <typename Part, std::size_t kCount>
void add_sources(const std::string& name, const Part& part, const std::array<plan::FigureField<Part>, kCount>& fields,
                 std::string& text) {
  text += fmt::format("{}\n", name);
  for (const auto& field : fields) {
    const auto& figure = part.*field.figure;
    if (!figure) continue;
    std::string range = short_number(figure->value);
    if (figure->low < figure->high)
      range += fmt::format(" ({} to {})", short_number(figure->low), short_number(figure->high));
    text += fmt::format("  {:<28} {:<24} {:<9}  {}\n", field.name, range + " " + field.unit, to_string(figure->kind),
                        figure->source);
  }
}

std::string gpu_table(const plan::Catalog& catalog) {
  Table table({"GPU", "memory GB", "GB/s", "fp16 TFLOP/s", "link GB/s", "W"});
  for (const auto& [name, machine] : catalog.machines())
    for (const plan::Gpu& gpu : machine.gpus)
      table.add_row({name, figure_text(gpu.memory_gb), figure_text(gpu.peak_gb_per_s),
                     figure_text(gpu.fp16_tflop_per_s), figure_text(gpu.link_gb_per_s), figure_text(gpu.power_w)});
  return table.text();
}

std::string cpu_table(const plan::Catalog& catalog) {
  Table table({"processor", "nodes", "cores of a node", "GB/s", "memory GB", "W"});
  for (const auto& [name, machine] : catalog.machines())
    if (const auto& cpu = machine.cpu)
      table.add_row({name, std::to_string(cpu->nodes), std::to_string(cpu->cores), figure_text(cpu->peak_gb_per_s),
                     figure_text(cpu->memory_gb), figure_text(cpu->power_w)});
  return table.text();
}

std::string model_table(const plan::Catalog& catalog) {
  Table table({"model", "parameters", "layers", "heads", "KV heads", "head dim", "most tokens", "KiB a token"});
  for (const auto& [name, model] : catalog.models()) {
    const double kib = 4.0 * model.num_layers * model.num_kv_heads * model.head_dim / 1024;
    const std::string most = fmt::format(
        "{}{}", model.max_context, model.sliding_window > 0 ? fmt::format(", sees {}", model.sliding_window) : "");
    table.add_row({name, fmt::format("{:.2f}e9", static_cast<double>(model.parameters()) / 1e9),
                   std::to_string(model.num_layers), std::to_string(model.num_q_heads),
                   std::to_string(model.num_kv_heads), std::to_string(model.head_dim), most, short_number(kib)});
  }
  return table.text();
}

std::string sources_text(const plan::Catalog& catalog) {
  std::string text = "\nFigures, how they are known, and from whom\n";
  for (const auto& [name, machine] : catalog.machines()) {
    for (const plan::Gpu& gpu : machine.gpus) add_sources(name, gpu, plan::kGpuFigures, text);
    if (machine.cpu) add_sources(name, *machine.cpu, plan::kCpuFigures, text);
  }
  for (const auto& [name, model] : catalog.models()) text += fmt::format("{}\n  {}\n", name, model.source);
  for (const auto& [name, series] : catalog.published())
    text += fmt::format("{} ({} points, {})\n  {}\n", name, series.points.size(), series.machine, series.source);
  return text;
}

Json model_json(const plan::ModelShape& model) {
  return {{"name", model.name},
          {"title", model.title},
          {"source", model.source},
          {"parameters", model.parameters()},
          {"layers", model.num_layers},
          {"q_heads", model.num_q_heads},
          {"kv_heads", model.num_kv_heads},
          {"head_dim", model.head_dim},
          {"max_context", model.max_context},
          {"sliding_window", model.sliding_window}};
}

void list(const PlanCommon& options, bool sources) {
  JsonOutput json(options.json);
  const plan::Catalog catalog = catalog_of(options);
  print(json, gpu_table(catalog) + "\n" + cpu_table(catalog) + "\n" + model_table(catalog) +
                  "\n? assumed; --sources says how each figure is known\n");
  if (sources) print(json, sources_text(catalog));
  Json machines = Json::array();
  Json models = Json::array();
  for (const auto& [name, machine] : catalog.machines()) machines.push_back(to_json(machine));
  for (const auto& [name, model] : catalog.models()) models.push_back(model_json(model));
  json.write({{"machines", machines}, {"models", models}});
}

}  // namespace

void add_plan_list(CLI::App& plan, Action& action) {
  struct Options {
    PlanCommon common;
    bool sources = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = plan.add_subcommand("list", "Show the machines and models that are known by name");
  command->add_flag("--sources", options->sources, "every figure with its range, how it is known, and from whom");
  add_plan_common(*command, options->common);
  command->footer("Example:\n  tandem plan list --sources");
  command->callback([options, &action] {
    action = [options] { with_usage_errors([&] { list(options->common, options->sources); }); };
  });
}

}  // namespace tandem::cli
