// tandem profile split: how the work of attention is best divided on this machine, measured, predicted and explained.
#include <algorithm>
#include <array>
#include <memory>
#include <thread>

#include <fmt/format.h>

#include "tools/tandem/codec_text.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/split_grid.h"
#include "tools/tandem/split_model.h"
#include "tools/tandem/split_page.h"
#include "tools/tandem/split_report.h"
#include "tools/tandem/split_trace.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {
namespace {

struct ProfileSplitOptions {
  CommonOptions common;
  SplitModelOptions model;
  std::string batches = "1", threads;
  std::string selectors =
      "all,sketch1:0.005,sketch1:0.01,sketch1:0.02,sketch1:0.05,sketch2:0.01,sketch2:0.02,sketch2:0.05";
  std::string windows = "64", codecs = "none", host_dtypes = "bf16", device = "host";
  std::string fit_contexts = "6K,48K";
  std::string dense_layers = "0";
  std::string target = "eps=0.1";
  std::string out, html;
  std::int64_t steps = 8;
  bool quick = false;
};

template <typename Number>
std::vector<Number> numbers(const std::string& option, const std::string& list, Number most, Number least = 1) {
  std::vector<Number> values;
  for (const auto& text : split_list(list)) {
    const auto value = parse_or<Number>(text, least - 1);
    if (value < least || value > most)
      throw UsageError(not_allowed(option, text, fmt::format("a list of whole numbers from {} to {}", least, most)));
    values.push_back(value);
  }
  return values;
}

std::vector<std::int64_t> contexts_of(const std::string& option, const std::string& list) {
  std::vector<std::int64_t> contexts;
  for (const auto& text : split_list(list)) contexts.push_back(parse_tokens(option, text));
  return contexts;
}

void check_dtype(const std::string& name) {
  constexpr std::array kDtypes = {"f32", "f16", "bf16", "int8", "k8v4"};
  if (std::find(kDtypes.begin(), kDtypes.end(), name) == kDtypes.end())
    throw UsageError(not_allowed("--host-dtypes", name, fmt::format("a list of {}", fmt::join(kDtypes, ", "))));
}

/// Layers that are kept dense attend to every row: that is measured where it was not asked for.
std::vector<std::string> selectors_of(const std::string& list, const std::vector<std::int32_t>& dense_layers) {
  std::vector<std::string> selectors = split_forms(list, {"lsh:"});
  const bool any_dense = std::any_of(dense_layers.begin(), dense_layers.end(), [](auto layers) { return layers > 0; });
  const bool has_all = std::any_of(selectors.begin(), selectors.end(),
                                   [](const std::string& selector) { return reads_all({.selector = selector}); });
  if (any_dense && !has_all) selectors.insert(selectors.begin(), "all");
  return selectors;
}

std::vector<Split> splits_of(const ProfileSplitOptions& options, const std::vector<std::int32_t>& dense_layers) {
  constexpr int kMostThreads = 1024;
  constexpr std::int32_t kMostLocal = 1 << 20;
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const auto threads =
      options.threads.empty() ? std::vector<int>{cores} : numbers("--threads", options.threads, kMostThreads);
  std::vector<Split> splits;
  for (const int each : threads) {
    for (const auto& dtype : split_list(options.host_dtypes)) {
      check_dtype(dtype);
      for (const std::int32_t local : numbers("--windows", options.windows, kMostLocal)) {
        for (const auto& codec : split_forms(options.codecs, {"qjl:"})) {
          parse_codec("--window-codecs", codec, "");
          for (const auto& selector : selectors_of(options.selectors, dense_layers)) {
            parse_selector("--selectors", selector);
            splits.push_back({.threads = each,
                              .device = options.device,
                              .local = local,
                              .codec = codec,
                              .host_dtype = dtype,
                              .selector = selector});
          }
        }
      }
    }
  }
  return splits;
}

std::int64_t num_steps(const CLI::App& command, const ProfileSplitOptions& options, const SplitModel& model) {
  constexpr std::int64_t kQuickSteps = 4;
  const std::int64_t steps = options.quick ? kQuickSteps : options.steps;
  return model.trace ? timed_steps(model.trace->meta, steps, !options.quick && command.count("--steps") > 0) : steps;
}

/// A runtime of each split, so that what the library refuses is refused before any work.
Json check_splits(const std::vector<Split>& splits, const SplitShape& shape, const std::string& isa) {
  Json described;
  for (const Split& split : splits) {
    Json config = config_of(split, shape, 1);
    if (!isa.empty()) config["isa"] = isa;
    try {
      described = describe(td::Runtime(config.dump()));
    } catch (const td::Error& error) {
      if (error.status() != TD_EINVAL) throw;
      throw UsageError(fmt::format("{}: {}", name_of(split), error.what()));
    }
  }
  return described;
}

/// The results of all cases of the grid in order, predicted, and measured where they were, over data like that which
/// predictions are made from where it is `made_up`.
std::vector<SplitResult> results_of(const SplitGrid& grid, const SplitPredictor& predictor,
                                    const SplitMeasurements& measured, bool made_up) {
  const auto is = [](const SplitCase& a, const SplitCase& b) {
    return a.split == b.split && a.tokens == b.tokens && a.batch == b.batch;
  };
  std::vector<SplitResult> results;
  for (const std::int64_t tokens : grid.contexts) {
    for (const int batch : grid.batches) {
      for (const Split& split : grid.splits) {
        SplitResult result;
        result.at = {split, tokens, batch};
        if (made_up || !gathers_by_data(selector_of(split))) result.predicted = predictor.predict(result.at);
        for (const SplitSample& sample : measured.asked)
          if (is(sample.at, result.at)) result.measured = sample;
        for (const SplitRefusal& refused : measured.refused)
          if (is(refused.at, result.at)) result.not_measured = refused.why;
        for (const SplitSample& sample : measured.fit)
          result.fitted = result.fitted || (made_up && is(sample.at, result.at));
        results.push_back(std::move(result));
      }
    }
  }
  return results;
}

/// The step to take at the longest context that was measured.
SplitStep step_to_take(const SplitReport& report) {
  const auto sections = sections_of(report);
  const SplitSection* last = nullptr;
  for (const SplitSection& section : sections)
    if (section.choice.best && (last == nullptr || section.tokens > last->tokens)) last = &section;
  TANDEM_CHECK(last != nullptr, out_of_memory,
               "no split could be measured: ", report.results.empty() ? "" : report.results.front().not_measured);
  return *last->choice.best;
}

/// The configuration to load, with what its steps cost.
Json config_of_choice(const Split& split, const SplitReport& report, const SplitPredictor& predictor) {
  Json config = config_of(split, report.shape, report.shape.num_layers);
  config["never_slower"] = true;
  const lsh::CostProfile profile = predictor.profile(split.threads);
  for (const lsh::CostField& field : lsh::kCostFields) config["profile"][field.name] = profile.*field.value;
  return config;
}

/// A report that says what is asked, and has no results yet.
SplitReport report_for(const SplitModel& model, const ProfileSplitOptions& options) {
  SplitReport report;
  report.model = model.name;
  if (model.trace) {
    report.trace = options.model.trace;
    report.trace_layer = model.trace->layers.front().layer;
  }
  report.shape = model.shape;
  report.dense_layers = numbers("--dense-layers", options.dense_layers, model.shape.num_layers, 0);
  report.target = parse_target("--target", options.target);
  return report;
}

void profile_split(const CLI::App& command, const ProfileSplitOptions& options) {
  JsonOutput json(options.common.json);
  JsonOutput out(options.out, "--out");
  JsonOutput html(options.html, "--html");
  refuse_mixed({&json, &out, &html});
  const SplitModel model = split_model_of(command, options.model);
  SplitReport report = report_for(model, options);
  SplitGrid grid{model.contexts, numbers("--batch", options.batches, 1024), splits_of(options, report.dense_layers)};
  SplitGrid fit{contexts_of("--fit-context", options.fit_contexts), {1, 2}, fit_splits(grid.splits)};
  report.machine = check_splits(grid.splits, model.shape, options.common.isa);
  if (model.trace) check_queries(report.trace, *model.trace, grid.splits);
  const SplitSweep sweep{.shape = model.shape,
                         .steps = num_steps(command, options, model),
                         .trace = model.trace,
                         .seed = options.common.seed,
                         .threads = num_threads(options.common),
                         .isa = options.common.isa,
                         .cache_bytes = last_level_cache_bytes(report.machine)};
  const SplitMeasurements measured = measure_grids(sweep, fit, grid);
  report.fit = measured.fit;
  const SplitPredictor predictor(grid.splits, model.shape, report.fit);
  report.results = results_of(grid, predictor, measured, model.trace == nullptr);
  const SplitStep step = step_to_take(report);
  const Json config = config_of_choice(step.split->at.split, report, predictor);
  if (!out.is_stdout() && !html.is_stdout()) print(json, text_of(report));
  out.write(config);
  if (!options.html.empty()) html.write_text(html_of(report));
  Json object = json_of(report);
  object["settings"] = {{"steps", sweep.steps},
                        {"fit_contexts", fit.contexts},
                        {"seed", options.common.seed},
                        {"threads", sweep.threads},
                        {"last_level_cache_bytes", sweep.cache_bytes}};
  object["config"] = config;
  object["dense_layers"] = step.dense_layers;  // beside it: td_config has no field for them
  object["version"] = td_version();
  json.write(object);
}

}  // namespace

void add_profile_split(CLI::App& profile, Action& action) {
  const auto options = std::make_shared<ProfileSplitOptions>();
  CLI::App* command = profile.add_subcommand("split", "Measure how attention is best divided between window and host");
  add_split_model(*command, options->model);
  command->add_option("--batch", options->batches, "sequences of a step, a list [1]");
  command->add_option(
      "--target", options->target,
      "eps=E: the fastest split with at most this error; tok/s=T: the most exact one that makes so many\n"
      "tokens of attention [eps=0.1]");
  command->add_option("--selectors", options->selectors, fmt::format("list of selectors [{}]", options->selectors));
  command->add_option("--dense-layers", options->dense_layers,
                      "list: of the model's layers so many attend to every row, the others as the split says [0]");
  command->add_option("--windows", options->windows, "list of local tokens of the window [64]");
  command->add_option("--window-codecs", options->codecs, fmt::format("list: {} [none]", codec_forms()));
  command->add_option("--host-dtypes", options->host_dtypes, "list of formats of host rows [bf16]");
  command->add_option("--threads", options->threads, "list of worker counts [every core]");
  command->add_option("--device", options->device, "what holds the window: host, or cuda:N, a GPU [host]");
  command->add_option("--fit-context", options->fit_contexts, "prompt lengths that predictions are made from [6K,48K]");
  command->add_option("--steps", options->steps, "timed steps of each split; their lower quartile counts [8]")
      ->check(number_in<std::int64_t>(2, 1000, "a whole number from 2 to 1000"));
  command->add_flag("--quick", options->quick, "4 steps of each");
  command->add_option(
      "--out", options->out,
      "write the split to take as a configuration, for --config and td_create_json; - is standard output");
  command->add_option("--html", options->html, "write the report as a page that opens without a network");
  add_common(*command, options->common, kSeed | kIsa | kJson);
  command->footer(
      "Each split is measured over made-up heads of six kinds (tandem synth --help), with the caches emptied before "
      "each\n"
      "step. Splits that differ in their selector alone take turns. Beside it stands what shorter and longer contexts\n"
      "(--fit-context) predict for it, with the range that holds for nine of ten: the last line says how good the\n"
      "predictions were. Errors are those of made-up heads, unless --trace names a model's own.\n"
      "--trace DIR (tandem generate --record, tandem synth) gives queries, keys and values of one layer, --layer, and\n"
      "with them its errors and what selectors that go by the data gather; all layers are taken to be like it, so try\n"
      "others too. The context is then the whole prompt, which its decode queries come after. The contexts of\n"
      "--fit-context stay made up: they predict time, which depends on shapes and hardly on data.\n"
      "Layers do not interact within a step: that of a model is the sum of its layers, and its error, which --target\n"
      "goes by, their mean. --dense-layers tries to keep some dense, where a few layers err more than the others; "
      "which\n"
      "they are, one measured layer cannot say. A configuration has one selector for all layers, so an engine passes\n"
      "TD_PART_ALL | TD_EXACT to td_attend in those.\n"
      "LSH tables, and sketches that are to meet an error, gather what the data makes them: they are predicted "
      "between\n"
      "the contexts of --fit-context alone, and not for a trace.\n"
      "tokens/s count attention alone; weights and everything else of a model come on top (`tandem plan` has them).\n"
      "Example:\n  tandem profile split --model llama-3.1-8b --context 8K,32K,128K --target eps=0.1 --out split.json\n"
      "  tandem profile split --trace trace --layer 12 --target eps=0.05 --out split.json\n"
      "  tandem run --trace trace --config split.json");
  command->callback(
      [options, command, &action] { action = [options, command] { profile_split(*command, *options); }; });
}

}  // namespace tandem::cli
