// tandem run: replays a recorded trace and compares every decode step with dense attention in double precision.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "tools/tandem/command.h"
#include "tools/tandem/config_file.h"
#include "tools/tandem/exact.h"
#include "tools/tandem/options.h"
#include "tools/tandem/replay.h"
#include "tools/tandem/replay_report.h"
#include "tools/tandem/selector_options.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/table.h"
#include "tools/tandem/temporary_path.h"
#include "tools/tandem/validators.h"
#include "tools/tandem/window_options.h"

namespace tandem::cli {
namespace {

struct RunOptions {
  CommonOptions common;
  SelectorOptions selector;
  TierOptions tiers;
  WindowOptions window;
  ConfigFile config;
  std::string trace;
  std::string layers;
  std::string timeline;
  std::int64_t steps = 0;
  int max_copies = 256;
  bool warm = false;
};

/// How the data of the timed steps is kept out of the caches.
struct ColdPlan {
  std::int64_t cache_bytes = 0;  ///< last-level cache
  std::int64_t copy_bytes = 0;   ///< what one copy of the prompt holds
  std::string note;              ///< why the copies are fewer than they should be, or empty
};

constexpr double kColdFactor = 1.25;  // copies beyond the last-level cache, so that it cannot hold all of them

/// The layers that --layers names, in its order; all of them when it is empty.
std::vector<std::int32_t> layers_to_run(const tools::TraceMeta& meta, const std::string& list) {
  if (list.empty()) return meta.layers;
  std::vector<std::int32_t> layers;
  for (const auto& name : split_list(list)) {
    const auto layer = std::find_if(meta.layers.begin(), meta.layers.end(),
                                    [&](std::int32_t candidate) { return std::to_string(candidate) == name; });
    if (layer == meta.layers.end())
      throw UsageError(fmt::format("--layers: '{}' is not allowed; allowed: a list of the trace's layers {}", name,
                                   fmt::join(meta.layers, ",")));
    if (std::find(layers.begin(), layers.end(), *layer) != layers.end())
      throw UsageError(fmt::format("--layers: '{}' is given twice in '{}'; allowed: each layer once", name, list));
    layers.push_back(*layer);
  }
  return layers;
}

tools::Trace trace_of(const RunOptions& options) {
  auto meta = tools::load_trace_meta(options.trace);
  const auto layers = layers_to_run(meta, options.layers);
  return tools::load_trace(options.trace, std::move(meta), layers);
}

std::int64_t steps_to_run(const tools::Trace& trace, std::int64_t wanted) {
  TANDEM_CHECK(trace.meta.steps > 0, invalid_argument, "the trace has no decode steps");
  if (wanted > trace.meta.steps)
    throw UsageError(
        fmt::format("--steps: '{}' is not allowed; allowed: at most the trace's {}", wanted, trace.meta.steps));
  return wanted == 0 ? trace.meta.steps : wanted;
}

WindowChoice window_of(const RunOptions& options) {
  auto window = choose_window(options.window);
  refuse_host_options(window, options.tiers, options.selector.given);
  if (window.policy.scores_attention())
    throw UsageError(
        fmt::format("--window-policy: '{}' is not allowed: a trace has no queries of its whole prompt; "
                    "allowed: latest, streaming",
                    options.window.policy));
  return window;
}

td_config config_of(const RunOptions& options, const tools::Trace& trace, const td_selector& selector,
                    WindowChoice& window) {
  const auto& meta = trace.meta;
  auto config = td::make<td_config>();
  config.num_layers = static_cast<std::int32_t>(trace.layers.size());
  config.num_q_heads = meta.num_q_heads;
  config.num_kv_heads = meta.num_kv_heads;
  config.head_dim_k = meta.head_dim_k;
  config.head_dim_v = meta.head_dim_v;
  config.scale = meta.scale;
  config.selector = &selector;
  apply(options.common, config);
  apply(options.selector, config);
  apply(options.tiers, TD_F32, static_cast<td_dtype>(trace.layers.front().k.dtype), config);
  apply(window, config);
  options.config.check_shape(config, "the trace");
  return config;
}

/// Found out before any work is done.
void check_timeline(const std::string& path) {
  if (path == "-") throw UsageError("--timeline: '-' is not allowed; allowed: the name of a file");
  const JsonOutput can_be_written(path, "--timeline");
}

std::vector<ExactResults> exact_results(const tools::Trace& trace, std::int64_t steps, int threads) {
  const auto layers = static_cast<std::int64_t>(trace.layers.size());
  Progress progress("dense reference", layers * exact_work(trace.meta, steps));
  std::vector<ExactResults> results;
  for (const auto& layer : trace.layers) results.push_back(exact_decode(trace.meta, layer, steps, threads, progress));
  return results;
}

/// Adds copies until they exceed the caches, or the limits.
ColdPlan fill(Replay& replay, const tools::Trace& trace, const RunOptions& options, std::int64_t cache_bytes) {
  const auto tokens = trace.meta.tokens * static_cast<std::int64_t>(trace.layers.size());
  {
    Progress progress("prompt", tokens);
    replay.add_copy(progress);
  }
  ColdPlan plan{
      .cache_bytes = cache_bytes, .copy_bytes = std::max<std::int64_t>(replay.bytes_per_copy(), 1), .note = {}};
  if (options.warm) return plan;
  const double target = kColdFactor * static_cast<double>(cache_bytes);
  const auto wanted = static_cast<std::int64_t>(std::ceil(target / static_cast<double>(plan.copy_bytes)));
  const auto copies = std::clamp<std::int64_t>(wanted, 1, options.max_copies);
  if (copies < wanted) plan.note = fmt::format("capped by --max-copies, {} would exceed the cache", wanted);
  Progress progress("copies", (copies - 1) * tokens);
  try {
    while (replay.num_copies() < copies) replay.add_copy(progress);
  } catch (const td::Error& error) {
    if (error.status() != TD_ENOMEM) throw;
    if (replay.num_copies() > 1) replay.drop_copy();  // the steps need memory too
    plan.note = fmt::format("capped by memory, {} would exceed the cache", wanted);
  }
  return plan;
}

std::vector<LayerSamples> measure(Replay& replay, const tools::Trace& trace, const std::vector<ExactResults>& exact,
                                  std::int64_t steps) {
  std::vector<LayerSamples> samples;
  for (std::size_t layer = 0; layer < trace.layers.size(); ++layer) {
    samples.emplace_back(trace.meta, trace.layers[layer], exact[layer]);
    for (int copy = 0; copy < replay.num_copies(); ++copy) samples.back().add_index(replay.info(copy, layer));
  }
  Progress progress("decode steps", steps);
  for (std::int64_t step = 0; step < steps; ++step) {
    const int copy = static_cast<int>(step % replay.num_copies());
    replay.catch_up(copy, step);
    for (std::size_t layer = 0; layer < trace.layers.size(); ++layer)
      samples[layer].add(step, replay.step(copy, layer, step));
    progress.advance();
  }
  return samples;
}

Json trace_json(const tools::Trace& trace, const std::string& path) {
  const auto& meta = trace.meta;
  return {{"path", path},
          {"tokens", meta.tokens},
          {"num_q_heads", meta.num_q_heads},
          {"num_kv_heads", meta.num_kv_heads},
          {"head_dim_k", meta.head_dim_k},
          {"head_dim_v", meta.head_dim_v},
          {"dtype", to_string(trace.layers.front().k.dtype)}};
}

std::string cold_text(const RunOptions& options, int copies, const ColdPlan& plan) {
  if (options.warm) return "warm: one copy of the prompt, every step";
  const auto copy_bytes = static_cast<double>(plan.copy_bytes);
  return fmt::format("cold: steps rotate over {} {} of {}, together {}; last-level cache {}{}{}", copies,
                     copies == 1 ? "copy" : "copies", human_bytes(copy_bytes), human_bytes(copies * copy_bytes),
                     human_bytes(static_cast<double>(plan.cache_bytes)), plan.note.empty() ? "" : "; ", plan.note);
}

/// Why a sketch selects nothing at first, or empty.
std::string calibration_note(const tools::Trace& trace, const td_selector& selector) {
  const bool calibrates = selector.kind == TD_SELECT_SKETCH || selector.kind == TD_SELECT_SKETCH_TOP_K;
  const bool has_queries = std::all_of(trace.layers.begin(), trace.layers.end(),
                                       [](const auto& layer) { return layer.q_tail.data != nullptr; });
  if (!calibrates || has_queries) return {};
  return "the trace has no queries of its prompt (q_tail): the sketch attends to every row until enough decode steps "
         "have "
         "brought some";
}

/// Why what was measured is not quite what was asked for, by its field of the report.
Json notes_of(const RunOptions& options, const tools::Trace& trace, const td_selector& selector, const ColdPlan& plan,
              const std::vector<LayerSamples>& samples) {
  const std::string uncalibrated = calibration_note(trace, selector);
  Json notes = {{"note", plan.note}, {"calibration_note", uncalibrated}};
  if (uncalibrated.empty()) notes["dense_note"] = dense_note(samples, selector, options.selector.always_select);
  for (auto note = notes.begin(); note != notes.end();)
    note = note.value().get<std::string>().empty() ? notes.erase(note) : std::next(note);
  return notes;
}

std::string threads_text(unsigned threads) {
  const unsigned cpus = std::max(1u, std::thread::hardware_concurrency());
  return threads > cpus ? fmt::format("{} threads, more than the {} usable CPUs", threads, cpus)
                        : fmt::format("{} threads", threads);
}

std::string text_of(const RunOptions& options, const td_selector& selector, const ColdPlan& plan, const Json& report) {
  std::string text = fmt::format("{}; {} steps; {}; {}\n{}\n", describe(selector), report["steps"].dump(),
                                 threads_text(report["threads"].get<unsigned>()), report["isa"].get<std::string>(),
                                 cold_text(options, report["copies"].get<int>(), plan));
  for (const char* note : {"calibration_note", "dense_note"})
    if (report.contains(note)) text += report[note].get<std::string>() + '\n';
  return text + '\n' + replay_table(report["layers"], report["mean"]);
}

void run(const RunOptions& options) {
  JsonOutput json(options.common.json);
  check_timeline(options.timeline);
  const auto selector = to_selector(options.selector, options.common.seed);
  refuse_unused(options.selector, {selector}, "--selector " + options.selector.selector);
  auto window = window_of(options);
  const auto trace = trace_of(options);
  const auto steps = steps_to_run(trace, options.steps);
  const auto config = config_of(options, trace, selector, window);
  const auto runtime = make_runtime(config);
  const Json machine = describe(runtime);
  const auto exact = exact_results(trace, steps, num_threads(options.common));

  Replay replay(runtime, trace);
  const auto plan = fill(replay, trace, options, last_level_cache_bytes(machine));
  std::optional<TemporaryPath> timeline;  // of the name that the library gives its file until it is whole
  if (!options.timeline.empty()) {
    timeline.emplace(options.timeline);
    runtime.start_timeline(options.timeline);
  }
  const auto samples = measure(replay, trace, exact, steps);
  if (!options.timeline.empty()) runtime.stop_timeline();
  std::vector<Json> layers;
  for (const auto& layer : samples) layers.push_back(layer.figures());

  Json report = {{"selector", options.selector.selector},
                 {"selector_config", to_json(selector)},
                 {"always_select", options.selector.always_select},
                 {"profile", machine.at("config").at("profile")},
                 {"split", describe(runtime).at("split")},
                 {"threads", threads_of(machine)},
                 {"isa", isa_of(machine)},
                 {"steps", steps},
                 {"layers", layers},
                 {"mean", mean_over_layers(layers)},
                 {"version", td_version()},
                 {"trace", trace_json(trace, options.trace)},
                 {"window", tiers_json(config)},
                 {"cold", !options.warm},
                 {"copies", replay.num_copies()},
                 {"copy_bytes", plan.copy_bytes},
                 {"last_level_cache_bytes", plan.cache_bytes}};
  add_to_json(window, report["window"]);
  report.update(notes_of(options, trace, selector, plan, samples));
  print(json, text_of(options, selector, plan, report));
  json.write(report);
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "Replay a trace and compare each step with dense attention");
  command->add_option("--trace", options->trace, "trace folder: meta.json and layer*.safetensors")->required();
  command->add_option("--layers", options->layers, "only these layers, as in 0,2 [all]");
  command->add_option("--steps", options->steps, "only the first steps; 0: all [0]")
      ->check(number_in<std::int64_t>(0, 1 << 30, "a whole number from 0 to the trace's steps"));
  command->add_option("--timeline", options->timeline, "write what every thread did in the steps, for ui.perfetto.dev");
  command->add_flag("--warm", options->warm, "replay one copy of the prompt, so that data stays in the caches");
  command->add_option("--max-copies", options->max_copies, "cold: at most this many copies of the prompt [256]")
      ->excludes("--warm")
      ->check(number_in(1, 100000, "a whole number from 1 to 100000"));
  add_selector(*command, options->selector);
  add_auto_split(*command, options->selector);
  add_tiers(*command, options->tiers);
  add_window(*command, options->window, kPolicy | kHostTier | kRopeTheta);
  add_common(*command, options->common, kAllCommon);
  options->config.add_to(*command);
  command->footer(
      "error = |out - dense| / |dense| per query head and step, dense in double precision. rows % = distinct rows\n"
      "gathered per KV head over rows in the host tier. estimate = the library's own estimate of the error; cert % = "
      "query\n"
      "heads and steps for which it is certified; cover % = of these, the errors of at most twice the estimate. Times "
      "are medians over the steps of one layer, in "
      "microseconds:\n"
      "worker time / workers with work for the stages (a step has one task per KV head), wall clock for append and\n"
      "total (the attention call). index B and build ns are per token and KV head.\n"
      "Cold: the steps rotate over copies of the prompt that together exceed 1.25 x the last-level cache, unless the\n"
      "output says that they are capped. A sparse step touches only a small part of its copy, so a very large\n"
      "last-level cache may still serve parts of it.\n"
      "The host tier keeps the trace's dtype and the window f32 unless told otherwise. Where selecting would take\n"
      "longer, as in short contexts, a step attends to every row: --always-select compares selectors there.\n"
      "Example:\n  tandem run --trace trace --selector lsh --lsh 10,150 --json result.json");
  command->callback([options, command, &action] {
    note_given(*command, options->selector);
    action = [options, command] {
      options->config.apply(*command, {options->common, options->selector, options->tiers, options->window});
      run(*options);
    };
  });
}

}  // namespace tandem::cli
