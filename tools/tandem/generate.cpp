// tandem generate: a model reads a prompt densely and answers with the attention of one's choice.
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "runtime/base/trace.h"
#include "tools/formats/input_file.h"
#include "tools/formats/trace.h"
#include "tools/tandem/answer.h"
#include "tools/tandem/command.h"
#include "tools/tandem/config_file.h"
#include "tools/tandem/dense_steps.h"
#include "tools/tandem/needles.h"
#include "tools/tandem/options.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/selector_options.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/validators.h"
#include "tools/tandem/window_options.h"

namespace tandem::cli {
namespace {

struct GenerateOptions {
  CommonOptions common;
  SelectorOptions selector;
  TierOptions tiers;
  WindowOptions window;
  ConfigFile config;
  std::string model, prompt, prompt_file, needle, question;
  bool has_prompt = false;  ///< --prompt was given, were it as ""
  std::string attention = "tandem";
  std::string record;
  std::int64_t max_tokens = 0;
};

constexpr std::int64_t kDefaultTokens = 64;

/// FILE:INDEX -> that prompt of a jsonl file.
NeedlePrompt read_needle(const std::string& text) {
  const auto colon = text.rfind(':');
  std::size_t index = 0;
  const char* begin = text.data() + (colon == std::string::npos ? text.size() : colon + 1);
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(begin, end, index);
  if (colon == std::string::npos || parsed.ec != std::errc{} || parsed.ptr != end)
    throw UsageError(fmt::format("--needle: '{}' is not allowed; allowed: FILE:INDEX, the first prompt being 0", text));
  auto prompts = load_needles(text.substr(0, colon), "--needle");
  if (index >= prompts.size())
    throw UsageError(fmt::format("--needle: '{}' is not allowed; allowed: an index below {}", text, prompts.size()));
  return std::move(prompts[index]);
}

NeedlePrompt prompt_of(const GenerateOptions& options) {
  const int sources = options.has_prompt + !options.prompt_file.empty() + !options.needle.empty();
  if (sources != 1) throw UsageError("give one of --prompt, --prompt-file and --needle");
  if (!options.needle.empty()) {
    if (!options.question.empty()) throw UsageError("--question: not allowed with --needle, which has its own");
    return read_needle(options.needle);
  }
  NeedlePrompt prompt;
  if (options.has_prompt && options.prompt.empty()) throw UsageError("--prompt: the prompt is empty");
  prompt.context = options.has_prompt ? options.prompt : tools::InputFile(options.prompt_file, "--prompt-file").text();
  TANDEM_CHECK(!prompt.context.empty(), io, "--prompt-file: ", options.prompt_file, ": the prompt is empty");
  prompt.question = options.question;
  return prompt;
}

Method method_of(const GenerateOptions& options) {
  if (options.attention != "tandem" && !options.selector.given.empty())
    throw UsageError(fmt::format("{}: not allowed with --attention {}, which has no selector; allowed with: tandem",
                                 options.selector.given.front(), options.attention));
  const auto selector = to_selector(options.selector, options.common.seed);
  refuse_unused(options.selector, {selector}, "--selector " + options.selector.selector);
  auto method = parse_method("--attention", options.attention, selector, options.selector.budget);
  if (options.record.empty()) return method;
  if (options.attention != "dense")
    throw UsageError(
        fmt::format("--attention: '{}' is not allowed with --record, which notes exact results; allowed: dense",
                    options.attention));
  for (const auto& dtype : {options.tiers.window_dtype, options.tiers.host_dtype})
    if (dtype == "bf16" || dtype == "int8" || dtype == "k8v4")
      throw UsageError(dtype + " rows are not allowed with --record, which writes f16; allowed: f32, f16");
  return method;
}

WindowChoice window_of(const GenerateOptions& options) {
  auto window = choose_window(options.window);
  refuse_host_options(window, options.tiers, options.selector.given);
  if (!window.host_tier && options.attention == "dense")
    throw UsageError(
        "--attention: 'dense' is not allowed without a host tier, where keys are lost; allowed: tandem, streaming");
  const bool is_plain = window.codec.codec.kind == TD_CODEC_NONE && window.policy.policy.kind == TD_POLICY_LATEST;
  if (!options.record.empty() && !is_plain)
    throw UsageError(
        fmt::format("--record: not allowed with --window-codec {} and --window-policy {}, it notes exact results; "
                    "allowed with: none and latest",
                    options.window.codec, options.window.policy));
  return window;
}

/// Writes down what every forward pass saw: the prompt with the queries of its end, then the decode steps.
class Recording {
 public:
  Recording(const llama::LlamaConfig& model, std::int64_t tokens, std::int64_t steps, const std::string& folder)
      : folder_(folder), recorder_(meta_of(model, tokens, steps), DType::f16) {}

  void prompt(const llama::AttentionRecord& r) { recorder_.add_prompt(r.layer, r.tokens, r.k, r.v, r.q); }
  void step(const llama::AttentionRecord& r) { recorder_.add_step(r.layer, r.q, r.k, r.v, r.out, r.lse); }
  void finish() {
    folder_.fill([this](const auto& path) { recorder_.write(path); });
  }

 private:
  static tools::TraceMeta meta_of(const llama::LlamaConfig& model, std::int64_t tokens, std::int64_t steps) {
    tools::TraceMeta meta;
    meta.tokens = tokens;
    meta.steps = steps;
    meta.num_q_heads = model.num_q_heads;
    meta.num_kv_heads = model.num_kv_heads;
    meta.head_dim_k = meta.head_dim_v = model.head_dim;
    meta.scale = 1.0f / std::sqrt(static_cast<float>(model.head_dim));
    for (std::int32_t layer = 0; layer < model.num_layers; ++layer) meta.layers.push_back(layer);
    return meta;
  }

  OutputFolder folder_;
  tools::TraceRecorder recorder_;
};

td_config config_of(const GenerateOptions& options, const llama::Llama& model, const td_selector& selector,
                    WindowChoice& window) {
  const auto row_dtype = options.record.empty() ? TD_F16 : TD_F32;  // recorded results are exact to the recorded rows
  auto config = model.attention_config();
  config.selector = &selector;
  config.max_tokens = model.config().max_positions;
  apply(options.common, config);
  apply(options.selector, config);
  apply(options.tiers, row_dtype, row_dtype, config);
  apply(window, config);
  options.config.check_shape(config, "the model");
  return config;
}

void check_length(const llama::LlamaConfig& model, std::size_t prompt_tokens, std::int64_t max_tokens) {
  const auto total = static_cast<std::int64_t>(prompt_tokens) + max_tokens;
  TANDEM_CHECK(total <= model.max_positions, invalid_argument, "prompt has ", prompt_tokens, " tokens and ", max_tokens,
               " more may follow; allowed: ", model.max_positions, " together, the model's positions");
}

struct Generated {
  Answer answer;
  double prefill_us = 0;
};

/// The part that runs the model: prefill, then the answer.
Generated run_model(const GenerateOptions& options, llama::Llama& model, const td::Runtime& runtime,
                    const Method& method, const std::vector<std::int32_t>& context,
                    const std::vector<std::int32_t>& question, DecodeOptions decode, Recording* recording) {
  const td::Sequence sequence(runtime);
  Generated generated;
  Stopwatch watch;
  std::vector<float> logits;
  {
    Progress progress("reading", static_cast<std::int64_t>(context.size()));
    llama::AttentionUse use{
        .runtime = runtime, .sequence = sequence, .parts = TD_PART_ALL | TD_EXACT, .recorder = {}, .progress = {}};
    use.round_kv_to_f16 = decode.round_kv_to_f16;
    use.progress = [&progress](std::int64_t done) { progress.update(done); };
    if (recording != nullptr) use.recorder = [recording](const auto& record) { recording->prompt(record); };
    logits = model.forward(use, context, decode.chunk_tokens);
  }
  generated.prefill_us = watch.lap_us();
  if (recording != nullptr) {
    decode.question_recorder = [recording](const auto& record) { recording->prompt(record); };
    decode.step_recorder = [recording](const auto& record) { recording->step(record); };
  }
  if (options.common.json != "-") {
    decode.on_byte = [](char byte) {
      std::fputc(byte, stdout);
      std::fflush(stdout);
    };
  }
  generated.answer = answer(model, runtime, sequence, method, question, std::move(logits), decode);
  return generated;
}

Json report_of(const GenerateOptions& options, const Method& method, const Generated& generated,
               const NeedlePrompt& prompt, std::size_t context_tokens, std::size_t question_tokens) {
  const auto& [answer, prefill_us] = generated;
  Json report = {{"attention", options.attention},
                 {"selector_config", to_json(method.selector)},
                 {"always_select", options.selector.always_select},
                 {"text", answer.text},
                 {"tokens", answer.tokens},
                 {"context_tokens", context_tokens},
                 {"question_tokens", question_tokens},
                 {"prefill_ms", prefill_us / 1000},
                 {"question_ms", answer.question_us / 1000},
                 {"ms_per_token", answer.ms_per_token()},
                 {"slowest_token_ms", quantile(answer.step_us, 1) / 1000},
                 {"steps", answer.forward_steps},
                 {"dense_steps", answer.dense_steps},
                 {"keys_share", answer.keys_share()},
                 {"version", td_version()}};
  if (!prompt.answer.empty()) {
    report["expected"] = prompt.answer;
    report["exact"] = answer.text.starts_with(prompt.answer);  // --max-tokens may ask for more
  }
  return report;
}

/// The end of what goes to standard error: times and shares, and why a selector did not select.
void print_summary(const Json& report, const std::string& dense) {
  const auto ms = [&report](const char* field) { return report.at(field).get<double>(); };
  std::string text = fmt::format(
      "{} + {} prompt tokens in {:.2f} s, {} tokens at {:.2f} ms (median); {:.2f} % of the keys "
      "attended",
      report.at("context_tokens").dump(), report.at("question_tokens").dump(),
      (ms("prefill_ms") + ms("question_ms")) / 1000, report.at("tokens").dump(), ms("ms_per_token"),
      100 * ms("keys_share"));
  if (report.contains("expected"))
    text += fmt::format("; expected {}: {}", report.at("expected").get<std::string>(),
                        report.at("exact").get<bool>() ? "right" : "wrong");
  std::fflush(stdout);  // in a pipe that both share, the answer comes first
  if (!dense.empty()) std::fprintf(stderr, "%s\n", dense.c_str());
  std::fprintf(stderr, "%s\n", text.c_str());
}

std::string dense_note(const GenerateOptions& options, const Method& method, const Answer& answer) {
  if (method.parts != TD_PART_ALL) return {};
  const bool tried = answer.selected || options.selector.always_select;
  return dense_text(answer.dense_steps, answer.forward_steps, method.selector, tried);
}

void generate(const GenerateOptions& options) {
  const auto method = method_of(options);
  auto window = window_of(options);
  const auto prompt = prompt_of(options);
  JsonOutput json(options.common.json);
  auto model = llama::Llama::load(options.model);
  refuse_merging(options.model, model.attention_config());
  llama::set_blas_threads(num_threads(options.common));

  auto context = llama::encode_bytes(prompt.context);
  context.insert(context.begin(), model.config().bos_token);
  const auto question = llama::encode_bytes(prompt.question);
  const auto answer_tokens = static_cast<std::int64_t>(prompt.answer.size());
  DecodeOptions decode;
  decode.max_tokens = options.max_tokens > 0 ? options.max_tokens : answer_tokens > 0 ? answer_tokens : kDefaultTokens;
  decode.chunk_tokens = window.chunk_tokens(options.tiers.local);
  decode.feed_all = decode.round_kv_to_f16 = !options.record.empty();
  check_length(model.config(), context.size() + question.size(), decode.max_tokens);

  const auto config = config_of(options, model, method.selector, window);
  const auto runtime = make_runtime(config);
  std::optional<Recording> recording;
  const auto prompt_tokens = static_cast<std::int64_t>(context.size() + question.size());
  if (!options.record.empty()) recording.emplace(model.config(), prompt_tokens, decode.max_tokens, options.record);
  const auto generated =
      run_model(options, model, runtime, method, context, question, decode, recording ? &*recording : nullptr);
  if (recording) recording->finish();
  Json report = report_of(options, method, generated, prompt, context.size(), question.size());
  report["split"] = describe(runtime).at("split");
  print(json, "\n");
  print_summary(report, dense_note(options, method, generated.answer));
  json.write(report);
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  const auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Let a model answer a prompt");
  command->add_option("--model", options->model, "model folder: config.json and model.safetensors")->required();
  command->add_option("--prompt", options->prompt, "the prompt");
  command->add_option("--prompt-file", options->prompt_file, "file that holds the prompt");
  command
      ->add_option("--needle", options->needle, "prompt INDEX (from 0) of a jsonl file with context, question, answer")
      ->type_name("FILE:INDEX");
  command->add_option("--question", options->question, "end of the prompt, attended like the answer");
  command
      ->add_option("--attention", options->attention,
                   "dense (every key), tandem (window and selector) or streaming (window only) [tandem]")
      ->check(one_of({"dense", "tandem", "streaming"}));
  command
      ->add_option("--max-tokens", options->max_tokens,
                   "tokens to generate; 0: as long as the needle's answer, or 64 [0]")
      ->check(number_in<std::int64_t>(0, 1 << 30, "a whole number from 0 on"));
  command->add_option("--record", options->record, "write the attention of this run as a trace folder (dense only)");
  add_selector(*command, options->selector);
  add_auto_split(*command, options->selector);
  add_tiers(*command, options->tiers);
  add_window(*command, options->window, kPolicy | kHostTier);
  add_common(*command, options->common, kAllCommon);
  options->config.add_to(*command);
  command->footer(
      "The context is read densely; --attention applies to the question and the answer. Rows are f16 in both tiers "
      "unless\n"
      "told otherwise. A codec of the window also serves the reading. The text goes to standard output, times and the "
      "share of keys attended to standard error.\n"
      "Example:\n  tandem generate --model tools/data/tiny-llama --needle tools/data/needle_prompts.jsonl:16 "
      "--attention tandem");
  command->callback([options, command, &action] {
    note_given(*command, options->selector);
    options->has_prompt = command->count("--prompt") > 0;
    action = [options, command] {
      options->config.apply(*command, {options->common, options->selector, options->tiers, options->window});
      generate(*options);
    };
  });
}

}  // namespace tandem::cli
