#include "tools/llama/llama_config.h"

#include <utility>

#include "runtime/base/error.h"
#include "tools/formats/json_fields.h"

namespace tandem::llama {
namespace {

using tools::JsonFields;

constexpr std::int64_t kMaxSize = 1 << 20;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxPositions = INT32_MAX;

std::int32_t size_field(const JsonFields& fields, const char* name, std::int64_t high,
                        std::optional<std::int64_t> fallback = {}) {
  return static_cast<std::int32_t>(fields.integer(name, 1, high, fallback));
}

/// Text fields that must have one value for this decoder to be right.
void require_text(const JsonFields& fields, const char* name, const char* only) {
  const std::string value = fields.text(name, only);
  TANDEM_CHECK(value == only, unsupported, fields.path().string(), ": ", name, " is '", value, "'; supported: '", only,
               "'");
}

void check_supported(const JsonFields& fields) {
  const std::string file = fields.path().string();
  require_text(fields, "model_type", "llama");
  for (const std::string& architecture : fields.texts("architectures")) {
    TANDEM_CHECK(architecture == "LlamaForCausalLM", unsupported, file, ": architectures holds '", architecture,
                 "'; supported: 'LlamaForCausalLM'");
  }
  require_text(fields, "hidden_act", "silu");
  require_text(fields, "rope_parameters.rope_type", "default");
  TANDEM_CHECK(!fields.has("rope_scaling"), unsupported, file, ": rope_scaling is set; supported: null");
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    TANDEM_CHECK(!fields.boolean(bias, false), unsupported, file, ": ", bias, " is true; supported: false");
  }
  const float rotary = fields.positive("partial_rotary_factor", 1.f);
  TANDEM_CHECK(rotary == 1.f, unsupported, file, ": partial_rotary_factor is ", rotary, "; supported: 1");
}

/// Newer configs keep theta in rope_parameters.
float rope_theta(const JsonFields& fields) {
  constexpr float kDefault = 10000.f;
  return fields.positive("rope_theta", fields.positive("rope_parameters.rope_theta", kDefault));
}

/// The object that a model retrofitted with DMC has; tools/dmc/retrofit_dmc.py writes it.
std::int32_t merge_window(const JsonFields& fields) {
  if (!fields.has("dmc")) return 0;
  require_text(fields, "dmc.alpha_source", "last_neuron");
  for (const auto& [name, only] : {std::pair{"dmc.alpha_bias", -5.0}, std::pair{"dmc.omega_bias", 5.0}}) {
    const double value = fields.number(name, -1000, 1000);
    TANDEM_CHECK(value == only, unsupported, fields.path().string(), ": ", name, " is ", value, "; supported: ", only);
  }
  return static_cast<std::int32_t>(fields.integer("dmc.window", 1, 64));
}

void check_heads(const JsonFields& fields, const LlamaConfig& config) {
  TANDEM_CHECK(config.num_q_heads % config.num_kv_heads == 0, io, fields.path().string(), ": num_attention_heads is ",
               config.num_q_heads, "; allowed: a multiple of num_key_value_heads (", config.num_kv_heads, ")");
  TANDEM_CHECK(config.head_dim >= 2 && config.head_dim <= kMaxHeadDim && config.head_dim % 2 == 0, io,
               fields.path().string(), ": head_dim is ", config.head_dim, "; allowed: even numbers from 2 to ",
               kMaxHeadDim);
}

}  // namespace

LlamaConfig load_config(const std::filesystem::path& path) {
  const JsonFields fields = JsonFields::read(path);
  check_supported(fields);
  LlamaConfig config;
  config.num_layers = size_field(fields, "num_hidden_layers", kMaxSize);
  config.hidden_size = size_field(fields, "hidden_size", kMaxSize);
  config.intermediate_size = size_field(fields, "intermediate_size", kMaxSize);
  config.num_q_heads = size_field(fields, "num_attention_heads", kMaxSize);
  config.num_kv_heads = size_field(fields, "num_key_value_heads", kMaxSize, config.num_q_heads);
  config.head_dim = size_field(fields, "head_dim", kMaxHeadDim, config.hidden_size / config.num_q_heads);
  config.vocab_size = size_field(fields, "vocab_size", kMaxSize);
  config.max_positions = size_field(fields, "max_position_embeddings", kMaxPositions);
  config.rms_norm_eps = fields.positive("rms_norm_eps");
  config.rope_theta = rope_theta(fields);
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
  const auto token = [&](const char* name) {
    return static_cast<std::int32_t>(fields.integer(name, -1, config.vocab_size - 1, -1));
  };
  config.merge_window = merge_window(fields);
  config.bos_token = token("bos_token_id");
  config.eos_token = token("eos_token_id");
  check_heads(fields, config);
  return config;
}

}  // namespace tandem::llama
