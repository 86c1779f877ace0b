// tandem eval needles: exact match of several attention methods on prompts that hide a fact in a long context.
#include <algorithm>
#include <limits>
#include <memory>

#include <fmt/format.h>

#include "tools/tandem/answer.h"
#include "tools/tandem/command.h"
#include "tools/tandem/dense_steps.h"
#include "tools/tandem/needles.h"
#include "tools/tandem/options.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/selector_options.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/table.h"
#include "tools/tandem/validators.h"
#include "tools/tandem/window_options.h"

namespace tandem::cli {
namespace {

struct EvalOptions {
  CommonOptions common;
  SelectorOptions selector;
  TierOptions tiers;
  WindowOptions window;
  std::string model, prompts;
  std::string methods = "dense,tandem,streaming";
  int seeds = 1;
  std::int64_t limit = 0;
  std::int64_t max_context = 0;
};

/// What one method did over all prompts and seeds.
struct Tally {
  Method method;
  int seeds = 1;
  std::int64_t answers = 0;
  std::int64_t exact = 0;
  double keys_share = 0;  ///< summed over the answers
  double decode_us = 0;
  double question_us = 0;
  std::int64_t steps = 0;
  std::int64_t forward_steps = 0;  ///< of one token each, and one for each question
  std::int64_t dense_steps = 0;    ///< of these, see is_dense()
  bool selected = false;           ///< any of them ran the selector
  Json missed = Json::array();     ///< prompts that at least one seed got wrong

  void add(const Answer& answer, bool is_exact) {
    ++answers;
    exact += is_exact ? 1 : 0;
    keys_share += answer.keys_share();
    decode_us += answer.decode_us();
    question_us += answer.question_us;
    steps += answer.steps;
    forward_steps += answer.forward_steps;
    dense_steps += answer.dense_steps;
    selected = selected || answer.selected;
  }
  [[nodiscard]] double mean_exact() const { return static_cast<double>(exact) / seeds; }
  [[nodiscard]] Json to_json() const {
    const auto count = static_cast<double>(std::max<std::int64_t>(answers, 1));
    return {{"name", method.name},
            {"exact", mean_exact()},
            {"exact_share", static_cast<double>(exact) / count},
            {"keys_share", keys_share / count},
            {"steps", forward_steps},
            {"dense_steps", dense_steps},
            {"ms_per_token", decode_us / 1000 / static_cast<double>(std::max<std::int64_t>(steps, 1))},
            {"question_ms", question_us / 1000 / count},
            {"seeds", seeds},
            {"parts", method.parts == TD_PART_STATIC ? "window" : "all"},
            {"selector_config", cli::to_json(method.selector)},
            {"missed", missed}};
  }
};

/// The prompts that --limit and --max-context leave.
std::vector<NeedlePrompt> wanted_prompts(const EvalOptions& options, const llama::LlamaConfig& model) {
  auto prompts = load_needles(options.prompts, "--prompts");
  const auto tokens_of = [](const NeedlePrompt& p) {
    return static_cast<std::int64_t>(1 + p.context.size() + p.question.size());
  };
  if (options.max_context > 0)
    std::erase_if(prompts, [&](const NeedlePrompt& prompt) { return tokens_of(prompt) > options.max_context; });
  if (options.limit > 0 && options.limit < static_cast<std::int64_t>(prompts.size()))
    prompts.resize(static_cast<std::size_t>(options.limit));
  TANDEM_CHECK(!prompts.empty(), invalid_argument, "--max-context ", options.max_context, " leaves no prompt of '",
               options.prompts, "'");
  for (const auto& prompt : prompts) {
    const auto total = tokens_of(prompt) + static_cast<std::int64_t>(prompt.answer.size());
    TANDEM_CHECK(total <= model.max_positions, invalid_argument, "prompt ", prompt.id, " has ", total,
                 " tokens with its answer; allowed: ", model.max_positions, ", the model's positions");
  }
  return prompts;
}

std::vector<Tally> tallies_of(const EvalOptions& options) {
  std::vector<Tally> tallies;
  const auto last_seed = std::numeric_limits<std::uint64_t>::max() - static_cast<std::uint64_t>(options.seeds - 1);
  if (options.common.seed > last_seed)
    throw UsageError(fmt::format("--seed: '{}' is not allowed with {} --seeds; allowed: at most {}, the seeds count on",
                                 options.common.seed, options.seeds, last_seed));
  const auto tandem = to_selector(options.selector, options.common.seed);
  std::vector<td_selector> selectors;
  for (auto& method : parse_methods("--methods", options.methods, tandem, options.selector.budget)) {
    selectors.push_back(method.selector);
    tallies.push_back({.method = method, .seeds = method.is_random() ? options.seeds : 1});
  }
  refuse_unused(options.selector, selectors,
                fmt::format("--methods {} and --selector {}", options.methods, options.selector.selector));
  return tallies;
}

td_config config_of(const EvalOptions& options, const llama::Llama& model, WindowChoice& window) {
  auto config = model.attention_config();
  config.max_tokens = model.config().max_positions;
  apply(options.common, config);
  apply(options.selector, config);
  apply(options.tiers, TD_F16, TD_F16, config);
  apply(window, config);
  return config;
}

/// Reads the context once, then lets every method and seed answer on its own fork of it.
void ask(llama::Llama& model, const td::Runtime& runtime, const NeedlePrompt& prompt, std::vector<Tally>& tallies,
         Progress& progress, std::int64_t tokens_before) {
  const td::Sequence context(runtime);
  auto tokens = llama::encode_bytes(prompt.context);
  tokens.insert(tokens.begin(), model.config().bos_token);
  llama::AttentionUse use{
      .runtime = runtime, .sequence = context, .parts = TD_PART_ALL | TD_EXACT, .recorder = {}, .progress = {}};
  use.progress = [&](std::int64_t done) { progress.update(tokens_before + done); };
  model.forward(use, tokens);

  const auto question = llama::encode_bytes(prompt.question);
  DecodeOptions decode;
  decode.max_tokens = static_cast<std::int64_t>(prompt.answer.size());
  for (auto& tally : tallies) {
    std::int64_t exact = 0;
    for (int seed = 0; seed < tally.seeds; ++seed) {
      auto selector = tally.method.selector;
      selector.seed += static_cast<std::uint64_t>(seed);
      const auto fork = context.fork(-1, &selector);
      const auto result = answer(model, runtime, fork, tally.method, question, {}, decode);
      tally.add(result, result.text == prompt.answer);
      exact += result.text == prompt.answer ? 1 : 0;
    }
    if (exact < tally.seeds) tally.missed.push_back(prompt.id);
  }
}

std::string table_of(const std::vector<Tally>& tallies, std::size_t prompts) {
  Table table({"method", "exact", "seeds", "keys %", "dense %", "ms/token"});
  for (const auto& tally : tallies) {
    const Json figures = tally.to_json();
    table.add_row({tally.method.name == "tandem" ? "tandem: " + describe(tally.method.selector) : tally.method.name,
                   fmt::format("{:g}/{}", tally.mean_exact(), prompts), std::to_string(tally.seeds),
                   fmt::format("{:.2f}", 100 * figures.at("keys_share").get<double>()),
                   fmt::format("{:.0f}", 100 * ratio(static_cast<double>(tally.dense_steps),
                                                     static_cast<double>(tally.forward_steps))),
                   fmt::format("{:.2f}", figures.at("ms_per_token").get<double>())});
  }
  return table.text();
}

/// A line for each method that did not select at every step although it has a selector.
std::string dense_notes(const std::vector<Tally>& tallies, bool always_select) {
  std::string text;
  for (const auto& tally : tallies) {
    if (tally.method.parts != TD_PART_ALL) continue;
    const std::string note =
        dense_text(tally.dense_steps, tally.forward_steps, tally.method.selector, tally.selected || always_select);
    if (!note.empty()) text += fmt::format("{}: {}\n", tally.method.name, note);
  }
  return text.empty() ? text : '\n' + text;
}

void eval_needles(const EvalOptions& options) {
  auto tallies = tallies_of(options);
  auto window = choose_window(options.window);
  JsonOutput json(options.common.json);
  auto model = llama::Llama::load(options.model);
  refuse_merging(options.model, model.attention_config());
  llama::set_blas_threads(num_threads(options.common));
  const auto prompts = wanted_prompts(options, model.config());
  const auto config = config_of(options, model, window);
  const auto runtime = make_runtime(config);

  std::int64_t total = 0;
  for (const auto& prompt : prompts) total += static_cast<std::int64_t>(1 + prompt.context.size());
  {
    Progress progress("prompts", total);
    std::int64_t done = 0;
    for (const auto& prompt : prompts) {
      ask(model, runtime, prompt, tallies, progress, done);
      done += static_cast<std::int64_t>(1 + prompt.context.size());
    }
  }
  const Json machine = describe(runtime);
  Json report = {{"prompts", prompts.size()},    {"methods", Json::array()},       {"seeds", options.seeds},
                 {"window", tiers_json(config)}, {"threads", threads_of(machine)}, {"isa", isa_of(machine)},
                 {"version", td_version()}};
  add_to_json(window, report["window"]);
  for (const auto& tally : tallies) report["methods"].push_back(tally.to_json());
  print(json, table_of(tallies, prompts.size()) + dense_notes(tallies, options.selector.always_select));
  json.write(report);
}

}  // namespace

void add_eval_needles(CLI::App& eval, Action& action) {
  const auto options = std::make_shared<EvalOptions>();
  CLI::App* command = eval.add_subcommand("needles", "Exact match on prompts that hide a fact in a long context");
  command->add_option("--model", options->model, "model folder: config.json and model.safetensors")->required();
  command->add_option("--prompts", options->prompts, "jsonl file of context, question and answer")->required();
  command->add_option("--methods", options->methods,
                      "list of dense, streaming, tandem (the selector below), or selectors spelled out: all,\n"
                      "sketch:0.02 (sketch1: and sketch2: with 1 and 2 bits per dimension), sketch-topk:0.02,\n"
                      "topk:0.02, lsh:10,150 [dense,tandem,streaming]");
  command->add_option("--seeds", options->seeds, "repeat random methods with this many seeds [1]")
      ->check(number_in(1, 1000, "a whole number from 1 to 1000"));
  command->add_option("--limit", options->limit, "only the first prompts; 0: all [0]")
      ->check(number_in<std::int64_t>(0, 1 << 30, "a whole number from 0 on"));
  command->add_option("--max-context", options->max_context, "skip prompts of more tokens; 0: none [0]")
      ->check(number_in<std::int64_t>(0, 1 << 30, "a whole number from 0 on"));
  add_selector(*command, options->selector);
  add_tiers(*command, options->tiers);
  add_window(*command, options->window, kCodecOnly);
  add_common(*command, options->common, kAllCommon);
  command->footer(
      "Every context is read densely once; each method then reads the question (as one step of many queries) and\n"
      "decodes the answer on its own fork. keys % is the mean share of keys attended by question and answer, dense %\n"
      "the share of these steps that attended to every key, as in short contexts: --always-select selects there too.\n"
      "Example:\n  tandem eval needles --model tools/data/tiny-llama --prompts tools/data/needle_prompts.jsonl "
      "--methods dense,sketch:0.02,topk:0.02,lsh:10,150,streaming --seeds 5");
  command->callback([options, command, &action] {
    note_given(*command, options->selector);
    action = [options] { eval_needles(*options); };
  });
}

}  // namespace tandem::cli
