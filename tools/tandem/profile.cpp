// tandem profile: what this machine can do, measured: for predictions, and as the file that --profile takes.
#include <ctime>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "numa/topology.h"
#include "tools/plan/gpu_bench.h"
#include "tools/plan/json_file.h"
#include "tools/plan/machine.h"
#include "tools/probes/processor.h"
#include "tools/tandem/command.h"
#include "tools/tandem/machine_page.h"
#include "tools/tandem/options.h"
#include "tools/tandem/profile_costs.h"
#include "tools/tandem/profile_gpus.h"
#include "tools/tandem/profile_host.h"
#include "tools/tandem/profile_kernels.h"
#include "tools/tandem/profile_measure.h"

namespace tandem::cli {
namespace {

struct ProfileOptions {
  CommonOptions common;
  std::string out, html, merge, name, gpu;
  bool quick = false;
  bool no_costs = false;
  bool no_gpus = false;
};

constexpr int kRounds = 9, kQuickRounds = 3;
constexpr double kSeconds = 45, kQuickSeconds = 5;  // of the host's rounds beyond the third

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

/// What a runtime of the smallest shape says about the machine.
Json described(const CommonOptions& options) {
  auto config = td::make<td_config>();
  config.num_layers = config.num_q_heads = config.num_kv_heads = config.local_tokens = 1;
  config.head_dim_k = 64;
  apply(options, config);
  return describe(make_runtime(config));
}

probes::HostPlan host_plan(const ProfileOptions& options) {
  probes::HostPlan plan;
  if (options.quick) plan = {.caches_per_array = 1.25, .alternatives = false};
  if (options.common.memory_gib > 0)
    plan.memory_bytes = static_cast<std::int64_t>(options.common.memory_gib * 1024 * 1024 * 1024);
  return plan;
}

/// The earlier file of --merge, once it is known to be of the machine that `machine` identifies.
std::optional<plan::Machine> earlier_of(const std::string& path, const plan::Machine& machine) {
  if (path.empty()) return std::nullopt;
  plan::Machine earlier = plan::load_machine(path);
  (void)plan::merged(earlier, machine);  // says what differs before minutes are spent
  return earlier;
}

lsh::CostProfile measure_costs(const ProfileOptions& options, const Json& machine) {
  ProfilePlan plan = options.quick ? ProfilePlan::quick() : ProfilePlan{};
  plan.common = options.common;
  plan.cache_bytes = last_level_cache_bytes(machine);
  constexpr std::int32_t kMostHeads = 64;  // every worker should have one, within reason
  plan.kv_heads = std::max(plan.kv_heads, std::min(kMostHeads, threads_of(machine)));
  return measure_profile(plan);
}

/// Measured, or read from the file of --gpu.
GpuReport gpus_of(const ProfileOptions& options) {
  if (!options.gpu.empty()) return {{plan::gpu_from_bench(plan::json_file(options.gpu), options.gpu)}, {}};
  return options.no_gpus ? GpuReport{} : measure_gpus(options.quick);
}

std::string notes_text(const Json& details) {
  std::string text;
  for (const Json& note : details.at("notes")) text += "note: " + note.get<std::string>() + "\n";
  return text;
}

plan::Machine identify(const ProfileOptions& options, const numa::Topology& topology) {
  plan::Machine machine;
  machine.cpu = identify_cpu(topology);
  machine.title = machine.cpu->title;
  machine.name = options.name.empty() ? machine.cpu->name : options.name;
  machine.date = utc_now();
  return machine;
}

void profile(const ProfileOptions& options) {
  JsonOutput json(options.common.json);
  JsonOutput out(options.out, "--out");
  JsonOutput html(options.html, "--html");
  refuse_mixed({&json, &out, &html});
  const Json runtime = described(options.common);
  const auto topology = numa::Topology::detect();
  plan::Machine machine = identify(options, topology);
  GpuReport gpus = gpus_of(options);
  machine.gpus = std::move(gpus.gpus);
  const auto earlier = earlier_of(options.merge, machine);

  HostReport host = measure_host(topology, host_plan(options), options.quick ? kQuickRounds : kRounds,
                                 options.quick ? kQuickSeconds : kSeconds);
  machine.cpu = std::move(host.cpu);
  machine.details = {{"version", td_version()},
                     {"kernel", probes::kernel_release()},
                     {"isa", isa_of(runtime)},
                     {"threads", threads_of(runtime)},
                     {"quick", options.quick}};
  machine.details.update(host.details);
  for (const std::string& note : gpus.notes) machine.details["notes"].push_back(note);
  if (!options.no_costs) machine.step_costs = measure_costs(options, runtime);
  KernelPlan kernels{.isa = isa_of(runtime), .threads = threads_of(runtime)};
  if (options.quick) {
    kernels.rows = 16384;
    kernels.rounds = 3;
  }
  machine.details["kernels"] = measure_kernels(topology, kernels, *machine.cpu, machine.step_costs);
  machine.details["roofline"] = roofline_json(*machine.cpu);
  if (earlier) machine = plan::merged(*earlier, machine);
  const Json file = plan::to_json(machine);
  (void)plan::machine_from(file, "this machine");  // never a file that nobody could read

  std::string text = host_text(*machine.cpu, machine.details) + notes_text(machine.details) + "\n" +
                     gpus_text(machine.gpus) + kernels_text(machine.details.at("kernels"));
  Json report = {{"machine", file}, {"quick", options.quick}, {"threads", threads_of(runtime)}};
  if (const auto& costs = machine.step_costs) {
    text += "\n" + costs_text(*costs);
    report.update(
        {{"profile", costs_json(*costs)}, {"built_in", costs_json({})}, {"crossover_rows", crossovers_json(*costs)}});
  }
  report.update({{"isa", isa_of(runtime)},
                 {"last_level_cache_bytes", last_level_cache_bytes(runtime)},
                 {"version", td_version()}});
  if (!out.is_stdout() && !html.is_stdout()) print(json, text);
  out.write(file);
  if (!options.html.empty()) html.write_text(html_of(machine));
  json.write(report);
}

constexpr const char* kHelp =
    "Measures what this machine can do and writes it as one JSON file, in less than two minutes; with --quick in "
    "about\n"
    "fifteen seconds, roughly. Leave the machine alone meanwhile. The file is for\n"
    "  tandem plan FILE               predicting speeds and memory of models on this machine and on others\n"
    "  run, generate, eval --profile FILE, td_config.profile     deciding where selecting rows pays (below)\n"
    "  tandem profile --merge FILE    a later run: figures become means, low and high span all runs\n"
    "\n"
    "Figures of a processor are those of one NUMA node, all of its cores at work, in 1e9 bytes per second: sequential\n"
    "reads (plain, with lines asked for ahead, or four rows of 512 bytes in turn: what is fastest); copies and triads "
    "(c = a + 3 b), whose bytes read\n"
    "and written count together, as in STREAM; gathers of rows of 256 and 512 bytes at random places, as a selection\n"
    "reads them. Names with core are of one core alone, with remote of another node's memory; latency_ns is a load "
    "that\n"
    "waits for the one before, fma_gflop_per_s fp32 arithmetic. Arrays exceed the caches; value is the median of "
    "rounds\n"
    "over all probes, low and high their extremes. The second table has everything: with and without prefetches, in\n"
    "2 MiB and 4 KiB pages, copies with ordinary stores (plain) instead of the C library's memcpy, and with stores "
    "past\n"
    "the caches (streaming). What could not be measured as it should be is in notes.\n"
    "\n"
    "Of each GPU: reads and copies within its memory (bytes read and written), the largest copies between it and "
    "pinned\n"
    "or ordinary host memory, the host's time for a launch, and a round trip from an empty kernel back to the host; "
    "the\n"
    "medians of repetitions between their quartiles. gpu_bench (with its kernels) measures more.\n"
    "\n"
    "The next table has this library's kernels: bytes of rows per second, and their share of what sequential reads "
    "or\n"
    "gathers of rows reach; flop/byte and GFLOP/s are for a roofline. Kernels far below have work to do besides "
    "reading.\n"
    "\n"
    "Step costs: a step attends to every row that it sees, exactly, where they predict that its selector would take\n"
    "longer. Tandem has built-in ones. They are nanoseconds of one worker, all workers at work and the caches emptied\n"
    "before every step, for GQA groups of 4, head_dim 128 and bf16 rows: per row of a dense pass, per gathered row, "
    "per\n"
    "code that a sketch scans, per row that topk scores, per row, id and bucket of LSH tables, and per selection "
    "beside\n"
    "all that. lsh_bit_agreement is a probability: how often a sign bit of a query equals that of a key. The last "
    "table\n"
    "says from how many rows of the host tier on a query selects (a selector that is cheaper by less than 10 % does\n"
    "not). Results of steps depend on the stored profile alone: keep the file with them.\n"
    "Example:\n  tandem profile --out machine.json";

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  const auto options = std::make_shared<ProfileOptions>();
  CLI::App* command = app.add_subcommand("profile", "Measure this machine, for plan and --profile");
  command->add_option("--out", options->out, "write the machine to this file; - is standard output");
  command->add_option("--html", options->html, "write the figures as a page that opens without a network");
  command->add_option("--merge", options->merge, "an earlier file of this machine, which the figures are merged with");
  command
      ->add_option("--gpu", options->gpu,
                   "what gpu_bench --json wrote of this machine's GPU, in place of measuring every GPU")
      ->excludes(command->add_flag("--no-gpus", options->no_gpus, "the host alone"));
  command->add_option("--name", options->name, "what to call the machine [by its processor, as in xeon-8480+]");
  command->add_flag("--quick", options->quick, "smaller arrays, fewer rounds and steps: seconds, and rougher figures");
  command->add_flag("--no-costs", options->no_costs, "no step costs: bandwidths, latency and arithmetic only");
  add_common(*command, options->common, kThreads | kIsa | kJson | kMemory);
  command->footer(kHelp);
  add_profile_split(*command, action);
  command->callback([options, command, &action] {
    if (command->get_subcommands().empty()) action = [options] { profile(*options); };
  });
}

}  // namespace tandem::cli
