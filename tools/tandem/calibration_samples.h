#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/rope.h"
#include "tools/formats/trace.h"
#include "tools/llama/llama.h"

namespace tandem::cli {

/// Keys as they were before RoPE, and values, that attention saw: what codec nuq learns from.
struct CalibrationSamples {
  struct Layer {
    std::vector<float> k, v;  ///< (tokens, num_kv_heads, head_dim)
  };
  std::int32_t num_kv_heads = 0, head_dim_k = 0, head_dim_v = 0;
  cpu::RopeParams rope;
  std::int64_t tokens = 0;
  std::vector<Layer> layers;

  /// Appends `count` tokens of one layer, from position `first` on; k carries RoPE.
  void add(std::size_t layer, std::int64_t first, std::int64_t count, const float* keys, const float* values);
};

/// Runs `model` densely over each of `texts` in turn, BOS first, until `tokens` tokens were seen; a text that is longer
/// than the model's positions counts as several. Throws Interrupted after Ctrl-C.
CalibrationSamples samples_of_model(llama::Llama& model, const td::Runtime& runtime,
                                    const std::vector<std::string>& texts, std::int64_t tokens);

/// The last `tokens` tokens of a trace's prompt, or all of it. Throws Interrupted after Ctrl-C.
CalibrationSamples samples_of_trace(const tools::Trace& trace, const cpu::RopeParams& rope, std::int64_t tokens);

}  // namespace tandem::cli
