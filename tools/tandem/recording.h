#pragma once

#include <cstdint>
#include <vector>

#include "tools/llama/llama.h"
#include "tools/tandem/progress.h"

namespace tandem::cli {

/// What one layer's attention saw of a text, fp32, by token: k, v (tokens, num_kv_heads, head_dim), q (tokens,
/// num_q_heads, head_dim); `out` like q, of the steps only.
struct LayerRecording {
  std::vector<float> q, k, v, out;
};

/// A text that a model read with exact dense attention: a context, and steps after it that are compared.
struct Recording {
  std::int64_t context_tokens = 0;
  std::int64_t steps = 0;
  std::vector<LayerRecording> layers;
  td_config shape{};  ///< num_layers, num_q_heads, num_kv_heads, head_dim_k of the model
};

/// The recording, and the logits after the context's last token and after every step but the last.
struct DenseReading {
  Recording recording;
  std::vector<std::vector<float>> logits;
};

/// Has `model` read `context`, then `steps` one at a time, in a runtime that keeps every key and value in fp32.
/// `progress` advances by the tokens of the context. Throws td::Error and Interrupted.
DenseReading read_densely(llama::Llama& model, const td_config& shape, const std::vector<std::int32_t>& context,
                          const std::vector<std::int32_t>& steps, Progress& progress);

/// Appends the context to `sequence`, at most `chunk_tokens` at a time; where `attends`, its queries attend to the
/// window too, for what they leave in the scores of tokens. Throws td::Error and Interrupted.
void append_context(const td::Runtime& runtime, const td::Sequence& sequence, const Recording& recording,
                    std::int64_t chunk_tokens, bool attends);

/// Plays the steps of the recording through a sequence that holds its context: their k, v and q as dense attention had
/// them. |out - dense| / |dense| of every step, layer and query head. Throws td::Error and Interrupted.
std::vector<double> step_errors(const td::Runtime& runtime, const td::Sequence& sequence, const Recording& recording);

}  // namespace tandem::cli
