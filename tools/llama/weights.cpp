#include "tools/llama/weights.h"

#include <string>

#include "runtime/base/error.h"
#include "tools/formats/safetensors.h"

namespace tandem::llama {

LlamaWeights load_weights(const std::filesystem::path& path, const LlamaConfig& config) {
  const auto file = tools::SafetensorsFile::open(path);
  const auto load = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    const tools::Tensor& tensor = file.at(name + ".weight", shape);
    TANDEM_CHECK(all_finite(tensor.dtype, tensor.data, tensor.elements()), io, path.string(), ": tensor '", name,
                 ".weight' holds NaN or infinity; allowed: finite values");
    return tensor.to_f32();
  };
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t q_size = std::int64_t{config.num_q_heads} * config.head_dim;
  const std::int64_t kv_size = std::int64_t{config.num_kv_heads} * config.head_dim;
  const std::int64_t mlp = config.intermediate_size;

  LlamaWeights weights;
  weights.embedding = load("model.embed_tokens", {config.vocab_size, hidden});
  for (std::int32_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    weights.layers.push_back({.attention_norm = load(layer + "input_layernorm", {hidden}),
                              .mlp_norm = load(layer + "post_attention_layernorm", {hidden}),
                              .q = load(layer + "self_attn.q_proj", {q_size, hidden}),
                              .k = load(layer + "self_attn.k_proj", {kv_size, hidden}),
                              .v = load(layer + "self_attn.v_proj", {kv_size, hidden}),
                              .o = load(layer + "self_attn.o_proj", {hidden, q_size}),
                              .gate = load(layer + "mlp.gate_proj", {mlp, hidden}),
                              .up = load(layer + "mlp.up_proj", {mlp, hidden}),
                              .down = load(layer + "mlp.down_proj", {hidden, mlp})});
  }
  weights.final_norm = load("model.norm", {hidden});
  if (!config.tie_word_embeddings) weights.head = load("lm_head", {config.vocab_size, hidden});
  return weights;
}

}  // namespace tandem::llama
