#include "tools/tandem/profile_host.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include <fmt/format.h>

#include "tools/probes/processor.h"
#include "tools/tandem/figures_table.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

using probes::HostMeasurement;
using probes::Pages;

constexpr int kLeastRounds = 3;

/// Which measurement a figure is, of those on huge pages and, of gathers, with prefetches.
struct Pick {
  std::optional<plan::Figure> plan::Cpu::*figure;
  const char* what;
  std::int64_t row_bytes;
  bool all_cores;
  bool remote;
  const char* source;  ///< what was measured; {0} is the number of cores, {1} the array in MiB
};

constexpr Pick kPicks[] = {
    {&plan::Cpu::read_gb_per_s, "read", 0, true, false, "{0} pinned cores read {2} MiB in sequence, each a part"},
    {&plan::Cpu::copy_gb_per_s, "copy", 0, true, false,
     "memcpy of {1} MiB by {0} pinned cores, bytes read and written; STREAM's COPY"},
    {&plan::Cpu::triad_gb_per_s, "triad", 0, true, false,
     "c = a + 3 b, arrays of {1} MiB, {0} pinned cores, ordinary stores, 24 bytes an element; STREAM's TRIAD"},
    {&plan::Cpu::gather_256_gb_per_s, "gather", 256, true, false,
     "rows of 256 bytes at random places of {1} MiB, none of them cached, prefetched, {0} pinned cores"},
    {&plan::Cpu::gather_512_gb_per_s, "gather", 512, true, false,
     "rows of 512 bytes at random places of {1} MiB, none of them cached, prefetched, {0} pinned cores"},
    {&plan::Cpu::core_read_gb_per_s, "read", 0, false, false, "1 pinned core reads {2} MiB in sequence"},
    {&plan::Cpu::core_gather_512_gb_per_s, "gather", 512, false, false,
     "rows of 512 bytes at random places of {1} MiB, none of them cached, prefetched, 1 pinned core"},
    {&plan::Cpu::remote_read_gb_per_s, "read", 0, true, true,
     "{0} pinned cores of one node read {2} MiB of another in sequence"},
    {&plan::Cpu::latency_ns, "latency", 0, false, false,
     "a cycle of loads through {1} MiB, none of them cached, each needing the one before, 1 pinned core"},
    {&plan::Cpu::fma_gflop_per_s, "fma", 0, true, false,
     "independent fp32 multiply-adds of {0} pinned cores, two operations each"},
};

bool is_of(const Pick& pick, const HostMeasurement& m) {
  const bool one_core = !pick.all_cores && m.cores == 1;
  return (m.what == pick.what || m.what == std::string("asking_") + pick.what ||
          m.what == std::string("interleaved_") + pick.what) &&
         m.pages == Pages::huge && m.row_bytes == pick.row_bytes && (m.row_bytes == 0 || m.prefetch) &&
         (one_core || m.all_cores == pick.all_cores) && (m.node != m.memory_node) == pick.remote;
}

/// Those of `pick`: of each node and memory, of the ways to read it the fastest.
std::vector<HostMeasurement> picked(const Pick& pick, const std::vector<HostMeasurement>& all) {
  std::vector<HostMeasurement> best;
  for (const HostMeasurement& m : all) {
    if (!is_of(pick, m)) continue;
    const auto same = std::find_if(best.begin(), best.end(), [&](const HostMeasurement& other) {
      return other.node == m.node && other.memory_node == m.memory_node;
    });
    if (same == best.end()) {
      best.push_back(m);
    } else if (m.value.median > same->value.median) {
      *same = m;
    }
  }
  return best;
}

/// Over nodes: the mean of their medians, and the extremes of all rounds.
std::optional<plan::Figure> figure_of(const Pick& pick, const std::vector<HostMeasurement>& all,
                                      std::int64_t array_bytes) {
  const auto measured = picked(pick, all);
  if (measured.empty()) return std::nullopt;
  plan::Figure figure{0, measured.front().value.low, measured.front().value.high, plan::FigureKind::measured, ""};
  for (const HostMeasurement& m : measured) {
    figure.value += m.value.median / static_cast<double>(measured.size());
    figure.low = std::min(figure.low, m.value.low);
    figure.high = std::max(figure.high, m.value.high);
  }
  figure.value = std::clamp(figure.value, figure.low, figure.high);
  const std::int64_t mib = array_bytes >> 20;
  figure.source = "tandem profile: " + fmt::format(fmt::runtime(pick.source), measured.front().cores, mib, 3 * mib);
  if (measured.front().what.starts_with("asking")) figure.source += ", asking for lines ahead";
  if (measured.front().what.starts_with("interleaved")) figure.source += ", four rows of 512 bytes in turn";
  return figure;
}

plan::Figure memory_figure(const numa::Topology& topology) {
  std::int64_t bytes = topology.memory_limit_bytes() / topology.num_nodes();
  const std::int64_t node_bytes = topology.nodes().front().memory_bytes;
  if (node_bytes > 0) bytes = std::min(bytes, node_bytes);
  const double gb = static_cast<double>(bytes) / 1e9;
  return {gb, gb, gb, plan::FigureKind::measured, "what the system and the process's control groups give a node"};
}

Json json_of(const HostMeasurement& m) {
  Json object = {{"what", m.what}, {"node", m.node}, {"memory_node", m.memory_node}, {"cores", m.cores}};
  if (m.what != "fma") object["pages"] = m.pages == Pages::huge ? "2M" : "4K";
  if (m.row_bytes > 0) {
    object["row_bytes"] = m.row_bytes;
    object["prefetch"] = m.prefetch;
  }
  object.update({{"unit", m.unit},
                 {"median", m.value.median},
                 {"low", m.value.low},
                 {"high", m.value.high},
                 {"samples", m.value.samples}});
  return object;
}

std::string yes_or_no(const Json& row, const char* name) {
  if (!row.contains(name)) return "";
  return row.at(name).get<bool>() ? "yes" : "no";
}

std::string measurements_text(const Json& rows) {
  Table table(
      {"measured", "node", "memory of", "cores", "pages", "row bytes", "prefetch", "median", "low", "high", ""});
  for (const Json& row : rows) {
    const auto text = [&](const char* name) {
      return !row.contains(name)              ? std::string()
             : row.at(name).is_string()       ? row.at(name).get<std::string>()
             : row.at(name).is_number_float() ? short_number(row.at(name).get<double>())
                                              : row.at(name).dump();
    };
    table.add_row({text("what"), text("node"), text("memory_node"), text("cores"), text("pages"), text("row_bytes"),
                   yes_or_no(row, "prefetch"), text("median"), text("low"), text("high"), text("unit")});
  }
  return table.text();
}

}  // namespace

plan::Cpu identify_cpu(const numa::Topology& topology) {
  plan::Cpu cpu;
  cpu.title = probes::processor_title();
  if (cpu.title.empty()) cpu.title = "a processor that the system does not name";
  cpu.name = probes::short_name(cpu.title);
  cpu.nodes = topology.num_nodes();
  cpu.cores = probes::usable_cores(topology, 0);
  return cpu;
}

HostReport measure_host(const numa::Topology& topology, const probes::HostPlan& plan, int rounds, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  probes::HostProbes probes(topology, plan);
  {
    Progress progress("measuring memory", std::int64_t{rounds} * probes.size());
    for (int i = 0; i < rounds; ++i) {
      if (i >= kLeastRounds && std::chrono::duration<double>(Clock::now() - start).count() > seconds) break;
      probes.round([&] { progress.advance(); });
    }
  }
  const auto all = probes.measurements();
  HostReport report{identify_cpu(topology), {}};
  // What may be a figure of the caches stays among the details, whose notes say so.
  const bool beyond_caches = 3 * probes.array_bytes() >= 2 * probes.cache_bytes();
  for (const Pick& pick : kPicks)
    if (beyond_caches || pick.figure == &plan::Cpu::fma_gflop_per_s)
      report.cpu.*pick.figure = figure_of(pick, all, probes.array_bytes());
  report.cpu.memory_gb = memory_figure(topology);
  report.details = {{"array_bytes", probes.array_bytes()},
                    {"last_level_cache_bytes", probes.cache_bytes()},
                    {"bytes", "read and written by the program, as STREAM counts; copies and triads count both"},
                    {"notes", probes.notes()},
                    {"host", Json::array()}};
  for (const HostMeasurement& m : all) report.details["host"].push_back(json_of(m));
  if (!beyond_caches)
    report.details["notes"].push_back(
        "the arrays may fit into the caches: no bandwidth and latency is a figure of "
        "this machine; free memory, or allow more of it with --memory");
  return report;
}

std::string host_text(const plan::Cpu& cpu, const Json& details) {
  std::string text =
      fmt::format("{}: {} node{} of {} core{}\n\n{}\n{}", cpu.title, cpu.nodes, cpu.nodes == 1 ? "" : "s", cpu.cores,
                  cpu.cores == 1 ? "" : "s", figures_table("of one node", cpu, plan::kCpuFigures),
                  measurements_text(details.at("host")));
  return text;
}

}  // namespace tandem::cli
