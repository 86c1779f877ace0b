#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/tandem/named_codec.h"
#include "tools/tandem/needles.h"
#include "tools/tandem/options.h"
#include "tools/tandem/recording.h"
#include "tools/tandem/window_options.h"

namespace tandem::cli {

/// A policy of the table. "full" is the latest tokens in a window that holds all of them.
struct NamedPolicy {
  std::string name;
  PolicyChoice choice;
  bool is_full = false;
};

/// What all cells have in common.
struct CellSettings {
  td_config
      base{};  ///< model, threads, ISA, memory, sinks, residual, host dtype; local tokens with those that are kept
  td_selector selector{};
  std::int64_t longest = 0;  ///< tokens of the longest text
};

/// What a model does with one codec, one policy, and a host tier or none: a runtime, and tallies over texts.
class WindowCell {
 public:
  /// Where this build has no code for the combination, refusal() says why and nothing else may be called. Throws
  /// UsageError for bad values.
  WindowCell(const CellSettings& settings, const NamedPolicy& policy, const NamedCodec& codec, bool host_tier);
  WindowCell(const WindowCell&) = delete;  // its configuration points into it
  WindowCell& operator=(const WindowCell&) = delete;
  ~WindowCell() = default;

  [[nodiscard]] const std::string& policy() const noexcept { return policy_; }
  [[nodiscard]] const std::string& codec() const noexcept { return codec_; }
  [[nodiscard]] const std::string& refusal() const noexcept { return refusal_; }

  /// A model that merges tokens, which each of its cells reads by itself and nothing is compared with: its likelihood
  /// of `targets`, each the token after a step that follows `context`.
  void read_text(llama::Llama& model, const std::vector<std::int32_t>& context, const std::vector<std::int32_t>& steps,
                 const std::vector<std::int32_t>& targets);
  /// Likewise, its answer.
  void answer_prompt(llama::Llama& model, const std::vector<std::int32_t>& context, const NeedlePrompt& prompt);

  /// Teacher-forced: output errors at the steps, and the likelihood of `targets`, each the token after a step.
  void read_text(llama::Llama& model, const Recording& recording, const std::vector<std::int32_t>& steps,
                 const std::vector<std::int32_t>& targets);
  /// Output errors at question and answer, then the model's own answer, token by token.
  void answer_prompt(llama::Llama& model, const Recording& recording, const NeedlePrompt& prompt);

  /// One row of the report. `dense_perplexity` is what dense attention has on the text.
  [[nodiscard]] Json figures(double dense_perplexity) const;

 private:
  [[nodiscard]] td::Sequence context_of(const Recording& recording) const;
  [[nodiscard]] td::Sequence context_of(llama::Llama& model, const std::vector<std::int32_t>& context) const;
  void read_on(llama::Llama& model, const td::Sequence& sequence, const std::vector<std::int32_t>& steps,
               const std::vector<std::int32_t>& targets);
  void answer_on(llama::Llama& model, const td::Sequence& sequence, const NeedlePrompt& prompt);
  void add_window(const td::Sequence& sequence);

  std::string policy_, codec_, host_;
  WindowChoice choice_;
  td_config config_{};
  td_selector selector_;
  std::unique_ptr<td::Runtime> runtime_;
  std::string refusal_;

  std::vector<double> errors_, question_errors_, nll_;  // no errors where nothing was compared
  std::int64_t prompts_ = 0, exact_ = 0;
  std::vector<double> window_shares_, dropped_rows_;  // of each sequence and layer
  std::int64_t most_rows_ = 0;                        // in a window, of any sequence and layer
  double bytes_per_token_ = 0;                        // there
};

/// -log of the probability that `logits` give to `token`.
double negative_log_likelihood(const std::vector<float>& logits, std::int32_t token);

}  // namespace tandem::cli
