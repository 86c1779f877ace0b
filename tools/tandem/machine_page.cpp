#include "tools/tandem/machine_page.h"

#include <fmt/format.h>

#include "tools/report/bar_chart.h"
#include "tools/report/roofline.h"
#include "tools/tandem/report_cells.h"

namespace tandem::cli {
namespace {

using plan::Cpu;
using plan::Gpu;

template <typename Part, std::size_t kCount>
report::Table figures_of(const Part& part, const std::array<plan::FigureField<Part>, kCount>& known) {
  report::Table table{"", {"figure", "value", "unit", "runs", "where from"}, {}};
  for (const auto& field : known) {
    const auto& figure = part.*field.figure;
    if (!figure) continue;
    table.rows.push_back({text_cell(field.name), figure_cell(*figure), text_cell(field.unit),
                          text_cell(std::to_string(figure->runs), true), text_cell(figure->source)});
  }
  return table;
}

/// All figures in GB/s.
template <typename Part, std::size_t kCount>
report::BarChart bandwidths_of(const Part& part, const std::array<plan::FigureField<Part>, kCount>& known) {
  report::BarChart chart{"Bandwidths", {"GB/s"}, {}};
  for (const auto& field : known) {
    const auto& figure = part.*field.figure;
    if (figure && std::string_view(field.unit) == "GB/s")
      chart.bars.push_back({field.name, figure->value, figure->low, figure->high, 0});
  }
  return chart;
}

report::Roofline roofline_of(const plan::Machine& machine) {
  report::Roofline chart{"Roofline of one NUMA node", {}, {}, {}};
  const Cpu& cpu = *machine.cpu;
  if (const auto& read = cpu.read_gb_per_s)
    chart.bandwidths.push_back({"sequential reads", read->value, read->low, read->high});
  if (const auto& gather = cpu.gather_512_gb_per_s)
    chart.bandwidths.push_back({"gathered rows of 512 bytes", gather->value, gather->low, gather->high});
  if (const auto& peak = cpu.fma_gflop_per_s) chart.peaks.push_back({"fp32 arithmetic", peak->value});
  const auto kernels = machine.details.find("kernels");
  if (kernels == machine.details.end() || !kernels->is_array()) return chart;
  for (const plan::Json& kernel : *kernels)
    chart.kernels.push_back(
        {kernel.value("name", ""), kernel.value("flop_per_byte", 0.0), kernel.value("gflop_per_s", 0.0)});
  return chart;
}

void add_cpu(const plan::Machine& machine, report::Page& page) {
  const Cpu& cpu = *machine.cpu;
  page.section("Host");
  page.paragraph(fmt::format(
      "{}, {} NUMA {} of {} usable {}. Figures are those of one node with all of its cores at work.", cpu.title,
      cpu.nodes, cpu.nodes == 1 ? "node" : "nodes", cpu.cores, cpu.cores == 1 ? "core" : "cores"));
  page.figure(
      bandwidths_of(cpu, plan::kCpuFigures),
      "Bytes that the program reads and writes; copies and triads count both, as STREAM does. Whiskers: extremes.");
  page.table(figures_of(cpu, plan::kCpuFigures));
  const report::Roofline roofline = roofline_of(machine);
  if (roofline.kernels.empty() || roofline.bandwidths.empty()) return;
  page.section("Roofline");
  page.figure(roofline,
              "This library's kernels at a GQA group of 4 and 128 dimensions. What lies on a slanted line is as fast "
              "as memory.");
}

void add_notes(const plan::Machine& machine, report::Page& page) {
  const auto notes = machine.details.find("notes");
  if (notes == machine.details.end() || !notes->is_array()) return;
  for (const plan::Json& note : *notes)
    page.note(report::Note::caution, "Measured differently", note.is_string() ? note.get<std::string>() : note.dump());
}

}  // namespace

std::string html_of(const plan::Machine& machine) {
  report::Page page(machine.title, fmt::format("measured {}", machine.date));
  page.paragraph(
      "What this machine's memory, arithmetic and kernels deliver. `tandem plan` predicts models from the same file.");
  add_notes(machine, page);
  if (machine.cpu) add_cpu(machine, page);
  for (const Gpu& gpu : machine.gpus) {
    page.section(gpu.title);
    page.figure(bandwidths_of(gpu, plan::kGpuFigures), "Whiskers: extremes.");
    page.table(figures_of(gpu, plan::kGpuFigures));
  }
  if (machine.step_costs) {
    page.section("What the parts of a step cost");
    report::Table table{"Nanoseconds of one worker", {"figure", "measured", "built in"}, {}};
    const lsh::CostProfile built_in;
    for (const lsh::CostField& field : lsh::kCostFields)
      table.rows.push_back({text_cell(field.name), report::number_cell(*machine.step_costs.*field.value),
                            report::number_cell(built_in.*field.value)});
    page.table(table);
  }
  return page.html();
}

}  // namespace tandem::cli
