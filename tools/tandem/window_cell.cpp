#include "tools/tandem/window_cell.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/tandem/answer.h"
#include "tools/tandem/coded_blocks.h"
#include "tools/tandem/command.h"
#include "tools/tandem/interrupt.h"
#include "tools/tandem/statistics.h"

namespace tandem::cli {
namespace {

/// What `policy` leaves of the local tokens for the latest ones, so that all policies fill the same window.
std::int32_t latest_tokens(const NamedPolicy& policy, const CellSettings& settings) {
  if (policy.is_full) return static_cast<std::int32_t>(settings.longest);
  return settings.base.local_tokens - policy.choice.policy.kept_tokens;
}

Json spread_of(const std::vector<double>& errors) {
  if (errors.empty()) return {{"mean", nullptr}, {"p95", nullptr}};
  return {{"mean", mean(errors)}, {"p95", quantile(errors, 0.95)}};
}

}  // namespace

double negative_log_likelihood(const std::vector<float>& logits, std::int32_t token) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum) - logits.at(static_cast<std::size_t>(token));
}

WindowCell::WindowCell(const CellSettings& settings, const NamedPolicy& policy, const NamedCodec& codec, bool host_tier)
    : policy_(policy.name),
      codec_(codec.name),
      host_(policy.is_full ? "-"
            : host_tier    ? "on"
                           : "off"),
      config_(settings.base),
      selector_(settings.selector) {
  choice_.codec = codec.codec;
  choice_.residual = codec.codec.codec.kind == TD_CODEC_NONE ? 0 : settings.base.residual_tokens;
  choice_.policy = policy.choice;
  choice_.host_tier = host_tier;
  config_.local_tokens = latest_tokens(policy, settings);
  config_.window_dtype = codec.dtype;
  config_.max_tokens = settings.longest;
  config_.selector = &selector_;
  apply(choice_, config_);
  try {
    runtime_ = std::make_unique<td::Runtime>(config_);
  } catch (const td::Error& error) {
    if (error.status() == TD_EINVAL)
      throw UsageError(fmt::format("--policies {} with --codecs {}: {}", policy_, codec_, error.what()));
    if (error.status() != TD_EUNSUPPORTED) throw;
    refusal_ = error.what();
  }
}

td::Sequence WindowCell::context_of(const Recording& recording) const {
  td::Sequence sequence(*runtime_);
  append_context(*runtime_, sequence, recording, choice_.chunk_tokens(config_.local_tokens),
                 choice_.policy.scores_attention());
  return sequence;
}

void WindowCell::read_text(llama::Llama& model, const Recording& recording, const std::vector<std::int32_t>& steps,
                           const std::vector<std::int32_t>& targets) {
  const auto sequence = context_of(recording);
  {
    const auto forced = sequence.fork();
    const auto errors = step_errors(*runtime_, forced, recording);
    errors_.insert(errors_.end(), errors.begin(), errors.end());
  }
  read_on(model, sequence, steps, targets);
}

void WindowCell::read_text(llama::Llama& model, const std::vector<std::int32_t>& context,
                           const std::vector<std::int32_t>& steps, const std::vector<std::int32_t>& targets) {
  read_on(model, context_of(model, context), steps, targets);
}

td::Sequence WindowCell::context_of(llama::Llama& model, const std::vector<std::int32_t>& context) const {
  td::Sequence sequence(*runtime_);
  llama::AttentionUse use{.runtime = *runtime_, .sequence = sequence, .recorder = {}, .progress = {}};
  use.parts = TD_PART_ALL | TD_EXACT;
  use.progress = [](std::int64_t) { check_interrupt(); };
  model.forward(use, context, choice_.chunk_tokens(config_.local_tokens));
  return sequence;
}

void WindowCell::read_on(llama::Llama& model, const td::Sequence& sequence, const std::vector<std::int32_t>& steps,
                         const std::vector<std::int32_t>& targets) {
  const llama::AttentionUse use{.runtime = *runtime_, .sequence = sequence, .recorder = {}, .progress = {}};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    check_interrupt();
    nll_.push_back(negative_log_likelihood(model.forward(use, {steps[i]}), targets[i]));
  }
  add_window(sequence);
}

void WindowCell::answer_prompt(llama::Llama& model, const Recording& recording, const NeedlePrompt& prompt) {
  const auto sequence = context_of(recording);
  {
    const auto forced = sequence.fork();
    const auto errors = step_errors(*runtime_, forced, recording);
    question_errors_.insert(question_errors_.end(), errors.begin(), errors.end());
  }
  answer_on(model, sequence, prompt);
}

void WindowCell::answer_prompt(llama::Llama& model, const std::vector<std::int32_t>& context,
                               const NeedlePrompt& prompt) {
  answer_on(model, context_of(model, context), prompt);
}

void WindowCell::answer_on(llama::Llama& model, const td::Sequence& sequence, const NeedlePrompt& prompt) {
  const llama::AttentionUse use{.runtime = *runtime_, .sequence = sequence, .recorder = {}, .progress = {}};
  std::vector<float> logits;
  for (const auto token : llama::encode_bytes(prompt.question)) logits = model.forward(use, {token});
  DecodeOptions decode;
  decode.max_tokens = std::ssize(prompt.answer);
  const Method method{.name = {}, .parts = TD_PART_ALL, .selector = selector_};
  const auto result = answer(model, *runtime_, sequence, method, {}, std::move(logits), decode);
  ++prompts_;
  exact_ += result.text == prompt.answer ? 1 : 0;
  add_window(sequence);
}

void WindowCell::add_window(const td::Sequence& sequence) {
  for (std::int32_t layer = 0; layer < config_.num_layers; ++layer) {
    const auto info = sequence.info(layer);
    const double heads = config_.num_kv_heads;
    window_shares_.push_back(ratio(static_cast<double>(info.window_entries), heads * static_cast<double>(info.length)));
    dropped_rows_.push_back(static_cast<double>(info.dropped_rows));
    if (info.window_rows <= most_rows_) continue;
    most_rows_ = info.window_rows;
    bytes_per_token_ = static_cast<double>(info.window_bytes) / static_cast<double>(info.window_entries);
  }
}

Json WindowCell::figures(double dense_perplexity) const {
  Json row = {{"policy", policy_}, {"codec", codec_}, {"host_tier", host_}};
  if (!refusal_.empty()) {
    row["refused"] = refusal_;
    return row;
  }
  const double perplexity = std::exp(mean(nll_));
  const double coded_bytes = bytes_per_coded_token(config_);
  row["exact"] = exact_;
  row["prompts"] = prompts_;
  row["perplexity"] = perplexity;
  row["perplexity_change"] = perplexity - dense_perplexity;
  row["error"] = spread_of(errors_);
  row["question_error"] = spread_of(question_errors_);
  row["bytes_per_token"] = bytes_per_token_;
  row["coded_bytes_per_token"] = coded_bytes;
  row["bits_per_element"] = 8 * coded_bytes / (2.0 * config_.head_dim_k);
  row["window_rows"] = most_rows_;
  row["window_share"] = mean(window_shares_);
  row["dropped_rows"] = mean(dropped_rows_);
  row["local_tokens"] = config_.local_tokens;
  row["window_config"] = Json::object();
  add_to_json(choice_, row["window_config"]);
  return row;
}

}  // namespace tandem::cli
