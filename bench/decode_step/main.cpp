// decode_step: whole decode steps of the runtime, timed beside their errors and their floors. bench/README.md explains.
#include <algorithm>
#include <ctime>
#include <memory>
#include <thread>

#include <fmt/format.h>

#include "bench/baselines/baselines.h"
#include "bench/decode_step/cold.h"
#include "bench/decode_step/options.h"
#include "bench/decode_step/report.h"
#include "bench/decode_step/runtime_contender.h"
#include "bench/decode_step/samples.h"
#include "cpu/row_layout.h"
#include "tools/probes/memory_reader.h"
#include "tools/tandem/command.h"
#include "tools/tandem/interrupt.h"

namespace tandem::bench {
namespace {

using cli::Progress;

constexpr std::int64_t kPreludeTokens = 4096;  // enough for every method to run all of its code

/// One line of the run's plan: a configuration that is not built yet.
struct Planned {
  std::string name;
  std::int64_t kv_bytes = 0;  ///< what building it will take at least
  std::int64_t work = 0;      ///< units by which building advances its progress
  std::function<Contender(const tools::TraceMeta&, Progress&)> make;
};

/// What all contexts share.
struct Bench {
  const Options& options;
  const numa::Topology& topology;
  const probes::MemoryReader& reader;
  int cores;
  Cold cold = Cold::wash;  ///< of the present context
};

std::int64_t kv_bytes(const tools::TraceMeta& meta, const std::string& host_dtype) {
  const auto shape = resolved({1, meta.num_q_heads, meta.num_kv_heads, meta.head_dim_k, meta.head_dim_v, 0.f, 0.f});
  return meta.tokens * meta.num_kv_heads *
         cpu::RowLayout::of(shape, parse_row_format("--host-dtypes", host_dtype)).kv_bytes;
}

std::vector<Planned> plan_of(const Bench& bench, const tools::TraceMeta& meta, const tools::TraceLayer& layer) {
  std::vector<Planned> plan;
  for (const int threads : bench.options.threads) {
    for (const auto& name : bench.options.baselines) {
      plan.push_back({name, 2 * kv_bytes(meta, "bf16"), meta.tokens,
                      [&bench, &layer, name, threads](const tools::TraceMeta& part, Progress& progress) {
                        return make_baseline(name, threads, bench.options.tiers, part, layer, progress);
                      }});
    }
    for (const int batch : bench.options.batches) {
      for (const auto& dtype : bench.options.host_dtypes) {
        const auto bytes = batch * kv_bytes(meta, dtype);
        for (const Json& selector : bench.options.selectors) {
          for (const auto& device : bench.options.devices) {
            const RuntimeSettings settings{
                .selector = selector,
                .threads = threads,
                .batch = batch,
                .layers = layers_for(bench.cold, bytes, bench.topology.last_level_cache_bytes()),
                .host_dtype = dtype,
                .device = device,
                .tiers = bench.options.tiers,
                .window = cli::choose_window(bench.options.window),
                .never_slower = bench.options.never_slower,
                .isa = bench.options.isa};
            plan.push_back({name_of(settings), settings.layers * bytes, settings.layers * batch * meta.tokens,
                            [settings, &layer](const tools::TraceMeta& part, Progress& progress) {
                              return make_runtime_contender(settings, part, layer, progress);
                            }});
          }
        }
      }
    }
  }
  return plan;
}

/// Between two steps of a layer, an engine runs those of others: a layer finds the code in the caches and none of its
/// data. The prelude is that other layer.
void add_prelude(const Planned& planned, tools::TraceMeta meta, Contender& contender) {
  meta.tokens = std::min(meta.tokens, kPreludeTokens);
  Progress progress(fmt::format("building the prelude of {}", planned.name), meta.tokens);
  contender.prelude = [other = std::make_shared<Contender>(planned.make(meta, progress))](std::int64_t step) {
    other->step(step, 0);
  };
}

/// Builds planned configurations from `begin` on while memory lasts, at least one.
std::vector<Contender> build_some(const Bench& bench, const tools::TraceMeta& meta, const std::vector<Planned>& plan,
                                  std::size_t& begin) {
  constexpr double kReserve = 1.5;  // an index, and what the others on the machine take meanwhile
  std::vector<Contender> contenders;
  while (begin < plan.size()) {
    const auto& planned = plan[begin];
    if (!contenders.empty() &&
        kReserve * static_cast<double>(planned.kv_bytes) > static_cast<double>(available_bytes()))
      break;
    Progress progress(fmt::format("building {}", planned.name), planned.work);
    contenders.push_back(planned.make(meta, progress));
    if (bench.cold == Cold::wash) add_prelude(planned, meta, contenders.back());
    ++begin;
  }
  return contenders;
}

/// All steps of a group of contenders, in turn.
std::vector<Samples> measure(const Bench& bench, const tools::TraceMeta& meta, const cli::ExactResults& exact,
                             const std::vector<Contender>& contenders) {
  const std::int64_t rounds = bench.options.steps + 1;
  std::vector<Samples> samples(contenders.size(), Samples(meta, exact, bench.options.exact_steps));
  Progress progress("decode steps", rounds * static_cast<std::int64_t>(contenders.size()));
  const auto most_layers = std::max_element(contenders.begin(), contenders.end(), [](const auto& a, const auto& b) {
                             return a.layers < b.layers;
                           })->layers;
  for (std::int64_t step = 0; step < rounds; ++step) {
    for (int layer = 0; layer < most_layers; ++layer) {
      for (std::size_t i = 0; i < contenders.size(); ++i) {
        if (layer >= contenders[i].layers) continue;
        if (bench.cold == Cold::wash) {
          bench.reader.read(bench.cores);
          contenders[i].prelude(step);
        }
        samples[i].add(step, contenders[i].step(step, layer), step > 0);
        if (layer == 0) progress.advance();
      }
    }
  }
  return samples;
}

/// GB/s of reads per number of threads: [sequential, scattered rows].
Json bandwidths(const Bench& bench) {
  Json result = Json::object();
  for (const int threads : bench.options.threads)
    result[std::to_string(threads)] = {bench.reader.bandwidth(threads), bench.reader.scattered_bandwidth(threads)};
  return result;
}

void add_rows(const std::vector<Contender>& contenders, const std::vector<Samples>& samples, const Json& before,
              const Json& after, const Json& shared, Json& rows) {
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    const auto threads = std::to_string(contenders[i].threads);
    const auto fastest = [&](int kind) {
      return std::max(before.at(threads).at(kind).get<double>(), after.at(threads).at(kind).get<double>());
    };
    Json row = contenders[i].settings;
    row["layers"] = contenders[i].layers;
    row.update(shared);
    row["bandwidth_gb_per_s"] = {{"before", before.at(threads).at(0)}, {"after", after.at(threads).at(0)}};
    row["scattered_gb_per_s"] = {{"before", before.at(threads).at(1)}, {"after", after.at(threads).at(1)}};
    row.update(samples[i].figures(fastest(0), fastest(1)));
    row["index_bytes_per_token"] = contenders[i].index.bytes_per_token;
    row["build_ns_per_token"] = contenders[i].index.build_ns_per_token;
    rows.push_back(row);
  }
}

/// Everything about one prompt length.
void run_context(Bench bench, std::int64_t tokens, int& group, Json& rows) {
  auto shape = bench.options.shape;
  shape.tokens = tokens;
  shape.steps = bench.options.steps + 1;
  const cli::SyntheticTrace trace(shape, bench.cores);
  const auto layer = trace.layer();
  cli::ExactResults exact;
  {
    Progress progress("exact reference", cli::exact_work(trace.meta(), bench.options.exact_steps));
    exact = cli::exact_decode(trace.meta(), layer, bench.options.exact_steps, bench.cores, progress);
  }
  std::int64_t smallest = INT64_MAX;
  for (const auto& dtype : bench.options.host_dtypes) smallest = std::min(smallest, kv_bytes(trace.meta(), dtype));
  bench.cold = cold_of(bench.options, smallest, bench.topology.last_level_cache_bytes());
  const auto plan = plan_of(bench, trace.meta(), layer);
  for (std::size_t next = 0; next < plan.size(); ++group) {
    const auto contenders = build_some(bench, trace.meta(), plan, next);
    const Json before = bandwidths(bench);
    const auto samples = measure(bench, trace.meta(), exact, contenders);
    add_rows(contenders, samples, before, bandwidths(bench), {{"cold", to_string(bench.cold)}, {"group", group}}, rows);
  }
}

/// A runtime of the smallest shape with each selector on each device, so that a bad one is refused before any work.
Json check_selectors(const Options& options) {
  Json described;
  for (const auto& device : options.devices) {
    for (const Json& selector : options.selectors) {
      Json config = {{"num_layers", 1},  {"num_q_heads", 1},  {"num_kv_heads", 1},    {"head_dim_k", 64},
                     {"num_threads", 1}, {"local_tokens", 1}, {"selector", selector}, {"device", device}};
      if (!options.isa.empty()) config["isa"] = options.isa;
      described = cli::describe(td::Runtime(config.dump()));
    }
  }
  return described;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

Json settings_json(const Bench& bench) {
  const auto& options = bench.options;
  const auto& shape = options.shape;
  return {{"num_kv_heads", shape.num_kv_heads},
          {"num_q_heads", shape.num_q_heads},
          {"head_dim", shape.head_dim},
          {"kind", shape.kind ? cli::to_string(*shape.kind) : "mixed"},
          {"seed", shape.seed},
          {"query_tail", shape.query_tail},
          {"sink_tokens", options.tiers.sinks},
          {"local_tokens", options.tiers.local},
          {"window_codec", options.window.codec},
          {"hand_off", options.window.hand_off},
          {"graphs", options.window.graphs},
          {"steps", options.steps},
          {"error_steps", options.exact_steps},
          {"cold", options.cold},
          {"wash_bytes", bench.reader.bytes()}};
}

void run(const Options& options) {
  cli::JsonOutput json(options.json);
  const Json described = check_selectors(options);
  const auto topology = numa::Topology::detect();
  const auto cache = std::max<std::int64_t>(topology.last_level_cache_bytes(), std::int64_t{32} << 20);
  const auto bytes = options.wash_mib > 0 ? options.wash_mib << 20
                                          : static_cast<std::int64_t>(kColdFactor * static_cast<double>(cache));
  const probes::MemoryReader reader(topology, bytes);
  Bench bench{options, topology, reader, topology.num_cores()};
  Json report = {{"benchmark", "decode_step"},
                 {"version", td_version()},
                 {"date", utc_now()},
                 {"command", options.command},
                 {"machine", machine_json(described)},
                 {"isa", cli::isa_of(described)},
                 {"settings", settings_json(bench)},
                 {"rows", Json::array()}};
  int group = 0;
  for (const std::int64_t tokens : options.contexts) run_context(bench, tokens, group, report["rows"]);
  cli::print(json, fmt::format("{}; {} heads\n\n{}", cli::isa_of(described),
                               report["settings"]["kind"].get<std::string>(), table_of(report["rows"])));
  json.write(report);
  cli::finish_stdout();
}

int failed(int code, const char* message) {
  std::fprintf(stderr, "decode_step: %s\n", message);
  return code;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  using namespace tandem;
  constexpr int kFailed = 1;
  constexpr int kBadUsage = 2;
  try {
    const auto options = bench::parse_options(argc, argv);
    cli::catch_interrupts();
    bench::run(options);
    return 0;
  } catch (const cli::UsageError& error) {
    return bench::failed(kBadUsage, error.what());
  } catch (const td::Error& error) {
    return bench::failed(error.status() == TD_EINVAL ? kBadUsage : kFailed, error.what());
  } catch (const Error& error) {
    return bench::failed(error.code() == ErrorCode::invalid_argument ? kBadUsage : kFailed, error.what());
  } catch (const std::exception& error) {
    return bench::failed(kFailed, error.what());
  }
}
