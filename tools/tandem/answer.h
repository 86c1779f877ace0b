#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/llama/llama.h"

namespace tandem::cli {

/// A way to attend while a model answers. The context before is always read densely.
struct Method {
  std::string name;
  int parts = TD_PART_ALL;
  td_selector selector{};

  /// True when other seeds give other answers.
  [[nodiscard]] bool is_random() const noexcept {
    return (selector.kind == TD_SELECT_LSH || selector.kind == TD_SELECT_SKETCH) && parts == TD_PART_ALL;
  }
};

/// "dense" (every key), "streaming" (only the window), "tandem" (window and `tandem`), or a selector as
/// parse_selector() reads it ("all", "sketch:0.02", "lsh:10,150"), which has the knobs of `tandem` where it names none,
/// but no error and no unbiased, and `budget` where `tandem` has none. Throws UsageError naming `field`, the name and
/// what is allowed.
Method parse_method(const std::string& field, const std::string& name, const td_selector& tandem, double budget);
/// The same for a list such as "dense,lsh:10,150,streaming".
std::vector<Method> parse_methods(const std::string& field, const std::string& list, const td_selector& tandem,
                                  double budget);

/// How to decode; the callbacks may be empty.
struct DecodeOptions {
  std::int64_t max_tokens = 64;
  std::int64_t chunk_tokens = 0;  ///< of a question that are attended at once; 0: all
  bool feed_all = false;  ///< ignore the end token, and feed the last token too, so that max_tokens steps are recorded
  bool round_kv_to_f16 = false;
  std::function<void(char)> on_byte;
  std::function<void(const llama::AttentionRecord&)> question_recorder;
  std::function<void(const llama::AttentionRecord&)> step_recorder;
};

struct Answer {
  std::string text;
  std::int64_t tokens = 0;
  std::int64_t steps = 0;          ///< decode steps, of one token each
  std::int64_t forward_steps = 0;  ///< decode steps, and one for a question
  std::int64_t dense_steps = 0;    ///< of these, in all layers; see is_dense()
  bool selected = false;           ///< any of them ran its selector
  double question_us = 0;
  std::vector<double> step_us;     ///< of each decode step; the first also builds the index when there was no question
  std::int64_t keys_attended = 0;  ///< by the question and the decode steps, all layers and query heads
  std::int64_t keys_visible = 0;

  [[nodiscard]] double keys_share() const noexcept;
  /// Median of the decode steps; 0 when there were none.
  [[nodiscard]] double ms_per_token() const;
  /// All decode steps together.
  [[nodiscard]] double decode_us() const;
};

/// Feeds `question` under `method` in steps of many queries (or takes `logits`, those of the context's last token,
/// when it is empty), then decodes greedily until the end token. Throws Interrupted after Ctrl-C.
Answer answer(llama::Llama& model, const td::Runtime& runtime, const td::Sequence& sequence, const Method& method,
              const std::vector<std::int32_t>& question, std::vector<float> logits, const DecodeOptions& options);

}  // namespace tandem::cli
