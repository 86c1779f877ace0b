#include "tools/tandem/profile_kernels.h"

#include <algorithm>

#include <fmt/format.h>

#include "cpu/codec/sketch.h"
#include "cpu/kernels.h"
#include "runtime/base/error.h"
#include "tools/probes/kernel_probes.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

constexpr int kHeadDim = 128, kGroup = 4;
constexpr std::int64_t kFactorBytes = 2;  // that a code of a sketch has besides its bits

const cpu::Kernels& kernels_named(const std::string& name) {
  const auto isas = cpu::available_isas();
  const auto found = std::find_if(isas.begin(), isas.end(), [&](cpu::Isa isa) { return cpu::to_string(isa) == name; });
  TANDEM_CHECK(found != isas.end(), unsupported, "there are no kernels for ", name);
  return cpu::kernels_for(*found);
}

/// Beside the figure of the processor that bounds it.
void add_share(Json& kernel, const plan::Cpu& cpu, bool gathers) {
  const auto& bound = gathers ? cpu.gather_512_gb_per_s : cpu.read_gb_per_s;
  kernel["of"] = gathers ? "gather_512_gb_per_s" : "read_gb_per_s";
  if (bound) kernel["share"] = kernel.at("gb_per_s").get<double>() / bound->value;
}

Json kernel_json(const std::string& name, const char* measured, double bytes, double flop, double gb_per_s) {
  return {{"name", name},
          {"measured", measured},
          {"bytes_per_row", bytes},
          {"flop_per_row", flop},
          {"flop_per_byte", flop / bytes},
          {"gb_per_s", gb_per_s},
          {"gflop_per_s", gb_per_s * flop / bytes}};
}

/// A scan estimates a score for each vector of the group: two operations for every dimension.
Json scan_json(int bits, double row_ns, const KernelPlan& plan, const plan::Cpu& cpu) {
  const double bytes = static_cast<double>(cpu::sketch_code_bytes(kHeadDim, bits) + kFactorBytes);
  Json kernel = kernel_json(fmt::format("scan of sketches, {} bit{}", bits, bits == 1 ? "" : "s"), "step costs", bytes,
                            2.0 * kHeadDim * kGroup, bytes * plan.threads / row_ns / cpu.nodes);
  add_share(kernel, cpu, false);
  return kernel;
}

}  // namespace

Json measure_kernels(const numa::Topology& topology, const KernelPlan& plan, const plan::Cpu& cpu,
                     const std::optional<lsh::CostProfile>& costs) {
  probes::KernelProbes probes(topology, kernels_named(plan.isa), plan.rows);
  {
    Progress progress("measuring kernels", std::int64_t{plan.rounds} * probes.size());
    for (int i = 0; i < plan.rounds; ++i) probes.round([&] { progress.advance(); });
  }
  Json kernels = Json::array();
  for (const probes::KernelMeasurement& m : probes.measurements()) {
    Json kernel = kernel_json(m.name, "kernels", m.bytes_per_row, m.flop_per_row, m.gb_per_s.median);
    kernel["low"] = m.gb_per_s.low;
    kernel["high"] = m.gb_per_s.high;
    add_share(kernel, cpu, m.name.starts_with("gather"));
    kernels.push_back(std::move(kernel));
  }
  if (costs) {
    kernels.push_back(scan_json(1, costs->scanned_row_1bit_ns, plan, cpu));
    kernels.push_back(scan_json(2, costs->scanned_row_2bit_ns, plan, cpu));
  }
  return kernels;
}

Json roofline_json(const plan::Cpu& cpu) {
  Json roofline = {{"cores", cpu.cores}};
  for (const auto& field : plan::kCpuFigures) {
    const std::string name = field.name;
    const bool bounds = name == "fma_gflop_per_s" || name.ends_with("gb_per_s");
    if (const auto& figure = cpu.*field.figure; figure && bounds) roofline[name] = figure->value;
  }
  return roofline;
}

std::string kernels_text(const Json& kernels) {
  Table table({"kernel, of one node", "bytes a row", "flop/byte", "GB/s", "low", "high", "GFLOP/s", "share", "of"});
  for (const Json& kernel : kernels) {
    const auto text = [&](const char* name) {
      return kernel.contains(name) ? short_number(kernel.at(name).get<double>()) : std::string();
    };
    const std::string share =
        kernel.contains("share") ? fmt::format("{:.0f} %", 100 * kernel.at("share").get<double>()) : "";
    table.add_row({kernel.at("name").get<std::string>(), text("bytes_per_row"), text("flop_per_byte"), text("gb_per_s"),
                   text("low"), text("high"), text("gflop_per_s"), share, kernel.at("of").get<std::string>()});
  }
  return table.text();
}

}  // namespace tandem::cli
