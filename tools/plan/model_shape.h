#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "tools/plan/figure.h"

namespace tandem::plan {

/// A decoder of attention and gated feed-forward layers, as far as the time and memory of a decode step depend on it.
struct ModelShape {
  std::string name;    ///< short, as on a command line: "llama-3.1-8b"
  std::string title;   ///< as its maker calls it
  std::string source;  ///< of the numbers
  int num_layers = 1;
  int num_q_heads = 1;
  int num_kv_heads = 1;
  int head_dim = 64;
  int hidden_size = 64;
  int intermediate_size = 64;
  int vocabulary = 1;
  bool tied_embeddings = false;     ///< the output layer is the table of input embeddings
  std::int64_t max_context = 1;     ///< tokens
  std::int64_t sliding_window = 0;  ///< tokens that a layer sees; 0: all
  bool attention_bias = false;      ///< of q, k and v
  bool head_norms = false;          ///< of q and k, as in Qwen3

  [[nodiscard]] int group_size() const noexcept { return num_q_heads / num_kv_heads; }
  /// Of one layer: what stands before attention (q, k, v and their norm), and what stands behind it.
  [[nodiscard]] std::int64_t parameters_before_attention() const noexcept;
  [[nodiscard]] std::int64_t parameters_behind_attention() const noexcept;
  [[nodiscard]] std::int64_t parameters() const noexcept;  ///< of the whole model
  [[nodiscard]] std::int64_t embedding_parameters() const noexcept { return std::int64_t{vocabulary} * hidden_size; }
  /// Tokens of a context that a layer attends to.
  [[nodiscard]] std::int64_t visible(std::int64_t context) const noexcept;
};

/// Reads the fields of a Hugging Face config.json of the model types llama, mistral, qwen2 and qwen3; parameters follow
/// from the fields. Fields that do not matter here may be there. Throws Error(unsupported) for other types, and
/// Error(invalid_argument) naming the field with `origin` before it, its value and what is allowed.
ModelShape shape_from_config(const Json& config, const std::string& origin);

/// A file of the library: {"schema": "tandem-model", "version": 1, "name", "title", "source", "parameters", "config"}.
/// Throws as shape_from_config(), also when `parameters` is not what follows from the fields.
ModelShape shape_from(const Json& object, const std::string& origin);

/// Either of both. Throws also Error(io) when the file cannot be read.
ModelShape load_shape(const std::filesystem::path& path);

/// Bytes that a parameter takes in memory.
enum class WeightFormat { bf16, int8, int4 };
const char* to_string(WeightFormat format) noexcept;
double bytes_of(WeightFormat format) noexcept;  ///< scales included: 2, 1 + 2 / 128, 0.5 + 2 / 128

}  // namespace tandem::plan
