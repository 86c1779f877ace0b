#include "tools/tandem/answer.h"

#include <numeric>

#include <fmt/format.h>

#include "runtime/base/trace.h"
#include "tools/tandem/command.h"
#include "tools/tandem/dense_steps.h"
#include "tools/tandem/interrupt.h"
#include "tools/tandem/options.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/statistics.h"

namespace tandem::cli {
namespace {

/// One answer in the making: what every forward pass shares.
class Decoder {
 public:
  Decoder(llama::Llama& model, llama::AttentionUse use) : model_(model), use_(std::move(use)) { use_.stats = &stats_; }

  std::vector<float> forward(const std::vector<std::int32_t>& tokens, std::int64_t chunk_tokens, Answer& result) {
    check_interrupt();
    stats_ = td::make<td_stats>();
    auto logits = model_.forward(use_, tokens, chunk_tokens);
    result.keys_attended += stats_.keys_attended;
    result.keys_visible += stats_.keys_visible;
    ++result.forward_steps;
    result.dense_steps += is_dense(stats_) ? 1 : 0;
    result.selected = result.selected || stats_.us[TD_SELECT] > 0;
    return logits;
  }
  void record_with(std::function<void(const llama::AttentionRecord&)> recorder) { use_.recorder = std::move(recorder); }

 private:
  llama::Llama& model_;
  llama::AttentionUse use_;
  td_stats stats_ = td::make<td_stats>();
};

}  // namespace

Method parse_method(const std::string& field, const std::string& name, const td_selector& tandem, double budget) {
  auto every_row = td::make<td_selector>();
  every_row.seed = tandem.seed;
  if (name == "dense") return {name, TD_PART_ALL | TD_EXACT, every_row};
  if (name == "streaming") return {name, TD_PART_STATIC, every_row};
  if (name == "tandem") return {name, TD_PART_ALL, tandem};
  auto selector = tandem;
  if (selector.budget == 0) selector.budget = budget;
  selector.error = 0;
  selector.unbiased = 0;
  try {
    read_selector(field, parse_selector(field, name), selector);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}; also allowed: dense, tandem, streaming", error.what()));
  }
  return {name, TD_PART_ALL, selector};
}

std::vector<Method> parse_methods(const std::string& field, const std::string& list, const td_selector& tandem,
                                  double budget) {
  std::vector<std::string> names;
  for (const auto& part : split_list(list)) {
    // The comma of lsh:K,L and those between FIELD=VALUE are not the list's.
    const bool second =
        !names.empty() && names.back().starts_with("lsh:") && names.back().find_first_of("=,") == std::string::npos;
    const bool another = !names.empty() && names.back().find('=') != std::string::npos &&
                         part.find(':') == std::string::npos && part.find('=') != std::string::npos;
    if (second || another) {
      names.back() += ',' + part;
    } else {
      names.push_back(part);
    }
  }
  std::vector<Method> methods;
  for (const auto& name : names) methods.push_back(parse_method(field, name, tandem, budget));
  return methods;
}

double Answer::keys_share() const noexcept {
  return keys_visible > 0 ? static_cast<double>(keys_attended) / static_cast<double>(keys_visible) : 0;
}

double Answer::ms_per_token() const { return quantile(step_us, 0.5) / 1000; }

double Answer::decode_us() const { return std::accumulate(step_us.begin(), step_us.end(), 0.0); }

Answer answer(llama::Llama& model, const td::Runtime& runtime, const td::Sequence& sequence, const Method& method,
              const std::vector<std::int32_t>& question, std::vector<float> logits, const DecodeOptions& options) {
  Answer result;
  Decoder decoder(model, {.runtime = runtime,
                          .sequence = sequence,
                          .parts = method.parts,
                          .recorder = options.question_recorder,
                          .progress = {},
                          .round_kv_to_f16 = options.round_kv_to_f16});
  Stopwatch watch;
  const auto chunk = options.chunk_tokens;
  if (!question.empty()) logits = decoder.forward(question, chunk > 0 ? chunk : std::ssize(question), result);
  result.question_us = watch.lap_us();

  decoder.record_with(options.step_recorder);
  for (std::int64_t i = 0; i < options.max_tokens; ++i) {
    const auto token = llama::argmax(logits);
    if (token == model.config().eos_token && !options.feed_all) break;
    ++result.tokens;
    if (const char byte = llama::decode_byte(token); byte != '\0') {
      result.text += byte;
      if (options.on_byte) options.on_byte(byte);
    }
    if (i + 1 == options.max_tokens && !options.feed_all) break;
    logits = decoder.forward({token}, 1, result);
    ++result.steps;
    result.step_us.push_back(watch.lap_us());
  }
  return result;
}

}  // namespace tandem::cli
