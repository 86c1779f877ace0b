// tandem eval window: what a model loses with each codec, policy and host tier of the window, in one table.
#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "runtime/base/dtype.h"
#include "runtime/base/error.h"
#include "tools/formats/input_file.h"
#include "tools/tandem/answer.h"
#include "tools/tandem/command.h"
#include "tools/tandem/eval_window_table.h"
#include "tools/tandem/filler_text.h"
#include "tools/tandem/needles.h"
#include "tools/tandem/options.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/validators.h"
#include "tools/tandem/window_cell.h"

namespace tandem::cli {
namespace {

constexpr const char* kPolicies = "full,latest,h2o:256,streaming";
constexpr std::int64_t kMaxTokens = 1 << 20;

struct EvalWindowOptions {
  CommonOptions common;
  std::string model, prompts, dmc_model;
  CodecListOptions codecs;
  std::string policies = kPolicies;
  std::string host = "on,off";
  std::string selector = "all", text;
  std::string host_dtype = "bf16";
  std::int32_t sinks = 4, local = 512, residual = 0;
  std::vector<std::string> given;  ///< of the options that only some codecs or policies have a use for
  std::int64_t limit = 0, text_tokens = 4096, text_steps = 512;
};

/// The text of the likelihood, as tokens: a context, steps, and after each step its target.
struct Text {
  std::vector<std::int32_t> context, steps, targets;
};

std::vector<NamedPolicy> policies_of(const EvalWindowOptions& options) {
  std::vector<NamedPolicy> policies;
  for (const auto& name : split_forms(options.policies, {"threshold:"})) {
    NamedPolicy policy{.name = name, .choice = {}, .is_full = name == "full"};
    try {
      policy.choice = parse_policy("--policies", policy.is_full ? "latest" : name);
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("{}; also allowed: full", error.what()));
    }
    if (policy.choice.policy.kind == TD_POLICY_DMC)
      throw UsageError(
          "--policies: 'dmc' is not allowed: this model was not trained to decide what to merge; give one "
          "that was with --dmc-model");
    if (policy.choice.policy.kept_tokens >= options.local)
      throw UsageError(not_allowed("--policies", name, fmt::format("fewer tokens than --local {}", options.local)));
    policies.push_back(std::move(policy));
  }
  return policies;
}

std::vector<bool> host_tiers_of(const EvalWindowOptions& options) {
  if (options.host == "on,off") return {true, false};
  if (options.host == "on") return {true};
  if (options.host == "off") return {false};
  throw UsageError(not_allowed("--host", options.host, "on, off or on,off"));
}

/// Throws UsageError for options that no cell has a use for.
void refuse_ignored(const EvalWindowOptions& options) {
  const auto codecs = parse_codecs(options.codecs);
  const auto policies = policies_of(options);
  const bool codes = std::any_of(codecs.begin(), codecs.end(),
                                 [](const auto& each) { return each.codec.codec.kind != TD_CODEC_NONE; });
  const bool has_host = !options.dmc_model.empty() ||
                        std::any_of(policies.begin(), policies.end(),
                                    [](const auto& each) { return !each.is_full && !each.choice.without_host; });
  for (const auto& option : options.given) {
    if (option == "--residual" && !codes)
      throw UsageError("--residual: not allowed with --codecs that compress nothing");
    if (option != "--residual" && !has_host)
      throw UsageError(
          fmt::format("{}: not allowed with --policies {}, none of which has a host tier", option, options.policies));
    if (option != "--residual" && option != "--host" && options.host == "off")
      throw UsageError(fmt::format("{}: not allowed with --host off", option));
  }
}

std::deque<WindowCell> cells_of(const EvalWindowOptions& options, const CellSettings& settings) {
  std::deque<WindowCell> cells;
  const auto codecs = parse_codecs(options.codecs);
  for (const auto& policy : policies_of(options)) {
    for (const auto& codec : codecs) {
      if (policy.is_full || policy.choice.without_host) {
        cells.emplace_back(settings, policy, codec, policy.is_full);
        continue;
      }
      for (const bool host_tier : host_tiers_of(options)) cells.emplace_back(settings, policy, codec, host_tier);
    }
  }
  return cells;
}

std::vector<std::int32_t> tokens_of(const NeedlePrompt& prompt, std::int32_t bos) {
  auto tokens = llama::encode_bytes(prompt.context);
  tokens.insert(tokens.begin(), bos);
  return tokens;
}

/// Question and answer, but for the answer's last token, which nothing follows.
std::vector<std::int32_t> steps_of(const NeedlePrompt& prompt) {
  auto tokens = llama::encode_bytes(prompt.question + prompt.answer);
  tokens.pop_back();
  return tokens;
}

std::int64_t length_of(const NeedlePrompt& prompt) {
  return std::ssize(prompt.context) + std::ssize(prompt.question) + std::ssize(prompt.answer) + 1;
}

std::vector<NeedlePrompt> prompts_of(const EvalWindowOptions& options, const llama::LlamaConfig& model) {
  auto prompts = load_needles(options.prompts, "--prompts");
  if (options.limit > 0 && options.limit < std::ssize(prompts)) prompts.resize(static_cast<std::size_t>(options.limit));
  for (const auto& prompt : prompts)
    TANDEM_CHECK(length_of(prompt) <= model.max_positions, invalid_argument, "prompt ", prompt.id, " has ",
                 length_of(prompt), " tokens with its answer; allowed: ", model.max_positions,
                 ", the model's positions");
  return prompts;
}

Text text_of(const EvalWindowOptions& options, const llama::LlamaConfig& model) {
  const auto bytes = static_cast<std::size_t>(options.text_tokens + options.text_steps);  // BOS is one more token
  if (static_cast<std::int64_t>(bytes) + 1 > model.max_positions)
    throw UsageError(
        fmt::format("--text-tokens: '{}' is not allowed with --text-steps {}; allowed: {} together, one less "
                    "than the model's positions",
                    options.text_tokens, options.text_steps, model.max_positions - 1));
  auto text =
      options.text.empty() ? filler_text(bytes, options.common.seed) : tools::InputFile(options.text, "--text").text();
  TANDEM_CHECK(text.size() >= bytes, invalid_argument, "--text: ", options.text, " has ", text.size(),
               " bytes; needed: ", bytes, " for --text-tokens and --text-steps");
  text.resize(bytes);
  auto tokens = llama::encode_bytes(text);
  tokens.insert(tokens.begin(), model.bos_token);
  const auto context_end = tokens.begin() + options.text_tokens;
  return {{tokens.begin(), context_end}, {context_end, tokens.end() - 1}, {context_end + 1, tokens.end()}};
}

CellSettings settings_of(const EvalWindowOptions& options, const llama::Llama& model, std::int64_t longest) {
  CellSettings settings;
  settings.base = model.attention_config();
  apply(options.common, settings.base);
  settings.base.sink_tokens = options.sinks;
  settings.base.local_tokens = options.local;
  settings.base.residual_tokens = options.residual;
  settings.base.host_dtype = static_cast<td_dtype>(parse_row_format("--host-dtype", options.host_dtype));
  settings.selector = td::make<td_selector>();
  read_selector("--selector", parse_selector("--selector", options.selector), settings.selector);
  settings.longest = longest;
  return settings;
}

/// Everything that is read: a text for its likelihood, prompts for their answers.
struct Task {
  Text text;
  std::vector<NeedlePrompt> prompts;
};

/// Reads the text densely, then has every cell read it. Returns the perplexity of dense attention.
double read_text(llama::Llama& model, const td_config& shape, const Text& text, std::deque<WindowCell>& cells,
                 Progress& progress) {
  const auto dense = read_densely(model, shape, text.context, text.steps, progress);
  std::vector<double> nll;
  for (std::size_t i = 0; i < text.steps.size(); ++i)
    nll.push_back(negative_log_likelihood(dense.logits[i + 1], text.targets[i]));
  for (auto& cell : cells) {
    if (cell.refusal().empty()) cell.read_text(model, dense.recording, text.steps, text.targets);
    progress.advance(dense.recording.context_tokens);
  }
  return std::exp(mean(nll));
}

/// The answers that dense attention gets right.
std::int64_t answer_prompts(llama::Llama& model, const td_config& shape, const std::vector<NeedlePrompt>& prompts,
                            std::deque<WindowCell>& cells, Progress& progress) {
  std::int64_t exact = 0;
  for (const auto& prompt : prompts) {
    const auto dense =
        read_densely(model, shape, tokens_of(prompt, model.config().bos_token), steps_of(prompt), progress);
    // The steps are the right answer, so greedy decoding gives it where each step's best token is the next one.
    const auto answer = llama::encode_bytes(prompt.answer);
    bool is_exact = true;
    for (std::size_t i = 0; i < answer.size(); ++i)
      is_exact = is_exact && llama::argmax(dense.logits[prompt.question.size() + i]) == answer[i];
    exact += is_exact ? 1 : 0;
    for (auto& cell : cells) {
      if (cell.refusal().empty()) cell.answer_prompt(model, dense.recording, prompt);
      progress.advance(dense.recording.context_tokens);
    }
  }
  return exact;
}

/// A model that merges tokens: another one, so its cells read everything by themselves. With a window that holds all
/// entries, and with one of --local entries.
class MergingModel {
 public:
  MergingModel(const EvalWindowOptions& options, std::int64_t longest) : model_(llama::Llama::load(options.dmc_model)) {
    if (model_.config().merge_window == 0)
      throw UsageError(
          fmt::format("--dmc-model: '{}' is not allowed; allowed: models trained to merge tokens, whose "
                      "config.json has \"dmc\"",
                      options.dmc_model));
    const auto settings = settings_of(options, model_, longest);
    NamedPolicy policy{.name = "dmc", .choice = {.policy = *settings.base.window_policy}};
    for (const auto& codec : parse_codecs(options.codecs)) {
      policy.is_full = true;
      policy.name = "dmc, full";
      cells_.emplace_back(settings, policy, codec, true);
      policy.is_full = false;
      policy.name = "dmc";
      for (const bool host_tier : host_tiers_of(options)) cells_.emplace_back(settings, policy, codec, host_tier);
    }
  }

  void read(const Task& task, Progress& progress) {
    for (auto& cell : cells_) {
      if (cell.refusal().empty()) cell.read_text(model_, task.text.context, task.text.steps, task.text.targets);
      progress.advance(std::ssize(task.text.context));
    }
    for (const auto& prompt : task.prompts) {
      const auto context = tokens_of(prompt, model_.config().bos_token);
      for (auto& cell : cells_) {
        if (cell.refusal().empty()) cell.answer_prompt(model_, context, prompt);
        progress.advance(std::ssize(context));
      }
    }
  }
  [[nodiscard]] const std::deque<WindowCell>& cells() const noexcept { return cells_; }

 private:
  llama::Llama model_;
  std::deque<WindowCell> cells_;
};

Json report_of(const EvalWindowOptions& options, const Task& task, const std::deque<WindowCell>& cells,
               double dense_perplexity, std::int64_t dense_exact) {
  Json report = {{"eval", "window"},
                 {"prompts", task.prompts.size()},
                 {"text", options.text.empty() ? "generated" : options.text},
                 {"text_tokens", options.text_tokens},
                 {"text_steps", options.text_steps},
                 {"sink_tokens", options.sinks},
                 {"local_tokens", options.local},
                 {"host_dtype", options.host_dtype},
                 {"selector", options.selector},
                 {"seed", options.common.seed},
                 {"dense", {{"perplexity", dense_perplexity}, {"exact", dense_exact}}},
                 {"cells", Json::array()},
                 {"version", td_version()}};
  for (const auto& cell : cells) report["cells"].push_back(cell.figures(dense_perplexity));
  return report;
}

void eval_window(const EvalWindowOptions& options) {
  refuse_ignored(options);  // bad usage is found before files are read
  host_tiers_of(options);
  JsonOutput json(options.common.json);
  auto model = llama::Llama::load(options.model);
  refuse_merging(options.model, model.attention_config());
  llama::set_blas_threads(num_threads(options.common));
  const Task task{text_of(options, model.config()), prompts_of(options, model.config())};
  std::int64_t longest = std::ssize(task.text.context) + std::ssize(task.text.steps);
  std::int64_t context_tokens = std::ssize(task.text.context);
  for (const auto& prompt : task.prompts) {
    longest = std::max(longest, length_of(prompt));
    context_tokens += std::ssize(prompt.context) + 1;
  }
  auto cells = cells_of(options, settings_of(options, model, longest));
  auto shape = model.attention_config();
  apply(options.common, shape);
  std::optional<MergingModel> merging;
  if (!options.dmc_model.empty()) merging.emplace(options, longest);
  double dense_perplexity = 0;
  std::int64_t dense_exact = 0;
  {
    const auto merging_cells = merging ? std::ssize(merging->cells()) : 0;
    Progress progress("cells", context_tokens * (1 + std::ssize(cells) + merging_cells));
    dense_perplexity = read_text(model, shape, task.text, cells, progress);
    dense_exact = answer_prompts(model, shape, task.prompts, cells, progress);
    if (merging) merging->read(task, progress);
  }
  Json report = report_of(options, task, cells, dense_perplexity, dense_exact);
  if (merging) {
    for (const auto& cell : merging->cells()) report["cells"].push_back(cell.figures(dense_perplexity));
  }
  print(json, eval_window_text(report));
  json.write(report);
}

void add_options(CLI::App& command, EvalWindowOptions& options) {
  const auto count = [](std::int64_t low, std::int64_t high) {
    return number_in(low, high, fmt::format("a whole number from {} to {}", low, high));
  };
  const auto window = [](std::int32_t low) {
    return number_in(low, 1 << 20, fmt::format("a whole number from {} to 2^20", low));
  };
  command.add_option("--model", options.model, "model folder: config.json and model.safetensors")->required();
  command.add_option("--prompts", options.prompts, "jsonl file of context, question and answer")->required();
  command.add_option("--dmc-model", options.dmc_model,
                     "model folder of one that was trained to merge tokens: its cells are added");
  add_codec_list(command, options.codecs);
  command.add_option("--policies", options.policies,
                     fmt::format("list of full (the window holds everything), {} [{}]", policy_forms(), kPolicies));
  command.add_option("--host", options.host, "host tier on, off or on,off [on,off]");
  command.add_option("--selector", options.selector, "which host rows a step attends to, as in topk:0.02 [all]");
  command.add_option("--sinks", options.sinks, "first tokens that stay in the window [4]")->check(window(0));
  command.add_option("--local", options.local, "local tokens of the window, with those that a policy keeps [512]")
      ->check(window(1));
  command.add_option("--residual", options.residual, "latest tokens that no codec compresses; 0: 128 [0]")
      ->check(window(0));
  command.add_option("--host-dtype", options.host_dtype, "f32, f16, bf16, int8 or k8v4: rows of the host tier [bf16]")
      ->check(one_of({"f32", "f16", "bf16", "int8", "k8v4"}));
  command.add_option("--limit", options.limit, "only the first prompts; 0: all [0]")->check(count(0, kMaxTokens));
  command.add_option("--text", options.text, "file whose first bytes are the text; otherwise it is generated");
  command.add_option("--text-tokens", options.text_tokens, "context of the text [4096]")->check(count(2, kMaxTokens));
  command.add_option("--text-steps", options.text_steps, "tokens after it, of which the perplexity is [512]")
      ->check(count(1, kMaxTokens));
}

}  // namespace

void add_eval_window(CLI::App& eval, Action& action) {
  const auto options = std::make_shared<EvalWindowOptions>();
  CLI::App* command = eval.add_subcommand("window", "What codecs and policies of the window cost, in one table");
  add_options(*command, *options);
  add_common(*command, options->common, kAllCommon);
  command->footer(
      "Every context is read once with exact dense attention; each cell gets those keys, values and queries, then the\n"
      "model reads the question and answers, or reads on in the text, one token at a time on the cell's own cache.\n"
      "error = |out - dense| / |dense| per layer, query head and step, of the same q, k and v: over the text's steps "
      "(mean,\n"
      "p95) and over question and answer. B/token: device memory of the largest window over its tokens and KV heads;\n"
      "coded: what one more token takes; bits: of these per element of K and V. window %: share of the tokens there.\n"
      "A model given with --dmc-model is another one: its cells are not compared step by step with the first.\n"
      "Policies that depend on attention see that of every token of the context, 64 at a time.\n"
      "Example:\n  tandem eval window --model tools/data/tiny-llama --prompts tools/data/needle_prompts.jsonl "
      "--codecs bf16,int8,kivi4,kivi2 --policies full,latest --json window.json");
  command->callback([options, command, &action] {
    for (const char* option : {"--host", "--selector", "--host-dtype", "--residual"})
      if (command->count(option) > 0) options->given.emplace_back(option);
    action = [options] { eval_window(*options); };
  });
}

}  // namespace tandem::cli
