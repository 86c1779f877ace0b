#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "tools/llama/llama.h"

namespace tandem::llama {

/// Weights in fp32; matrices are (outputs, inputs) row-major, as Hugging Face stores them.
struct LayerWeights {
  std::vector<float> attention_norm, mlp_norm;
  std::vector<float> q, k, v, o;
  std::vector<float> gate, up, down;
};

struct LlamaWeights {
  std::vector<float> embedding;  ///< (vocab_size, hidden_size)
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;
  std::vector<float> head;  ///< (vocab_size, hidden_size); empty when tied to the embedding
};

/// Throws Error(io) naming the file and the tensor that is missing, misshapen or not finite.
LlamaWeights load_weights(const std::filesystem::path& path, const LlamaConfig& config);

}  // namespace tandem::llama
