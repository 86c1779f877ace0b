#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "tandem/tandem.hpp"

namespace tandem::llama {

/// The fields of a Hugging Face config.json that a Llama decoder needs.
struct LlamaConfig {
  std::int32_t num_layers = 0;
  std::int32_t hidden_size = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t num_q_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t vocab_size = 0;
  std::int32_t max_positions = 0;
  float rms_norm_eps = 0.f;
  float rope_theta = 0.f;
  bool tie_word_embeddings = false;
  std::int32_t bos_token = 0;  ///< -1: none
  std::int32_t eos_token = 0;  ///< -1: none
  /// Tokens of an entry that it averages, where the model was trained to merge tokens (DMC, arXiv:2403.09636): the last
  /// elements of k and q before RoPE are decisions then. 0: it was not.
  std::int32_t merge_window = 0;
};

/// What one layer's attention saw and gave, fp32: q (tokens, num_q_heads, head_dim), k, v (tokens, num_kv_heads,
/// head_dim), out like q, lse (tokens, num_q_heads). Keys of a model that merges tokens are those before RoPE.
/// `first_position` is the position of the first token.
struct AttentionRecord {
  std::int32_t layer;
  std::int64_t first_position;
  std::int64_t tokens;
  const float *q, *k, *v, *out, *lse;
};

/// How a forward pass attends: which sequence, which parts (TD_PART_*, TD_EXACT), and what to note down.
struct AttentionUse {
  const td::Runtime& runtime;
  const td::Sequence& sequence;
  int parts = TD_PART_ALL;
  td_stats* stats = nullptr;  ///< added to, layer by layer (tools/llama/stats.h), when not null
  std::function<void(const AttentionRecord&)> recorder;  ///< called once per layer and chunk when set
  std::function<void(std::int64_t done)> progress;       ///< called after every chunk when set
  bool round_kv_to_f16 = false;  ///< rounds q, k and v to fp16 first, so that an fp16 trace reproduces them exactly
};

/// A minimal Llama decoder (RMSNorm, RoPE, GQA, SwiGLU; weights in fp32, products by BLAS) whose attention is Tandem's:
/// the smallest example of an engine that links the runtime. It includes nothing of Tandem but tandem.h(pp) and the
/// safetensors reader. Not thread-safe.
class Llama {
 public:
  /// Reads config.json and model.safetensors. Throws tandem::Error(io / unsupported) naming file and field.
  static Llama load(const std::filesystem::path& folder);
  Llama(Llama&&) noexcept;
  Llama& operator=(Llama&&) noexcept;
  ~Llama();

  [[nodiscard]] const LlamaConfig& config() const noexcept;
  /// The attention of this model as a td_config with everything else at its default. A model that merges tokens needs
  /// its window_policy as it is there, which lives as long as the model.
  [[nodiscard]] td_config attention_config() const;

  /// Appends `tokens` to `use.sequence` (at its present length), attends as `use` says, in chunks of at most
  /// `chunk_tokens`, and returns the logits (vocab_size) of the last token.
  ///
  /// Throws tandem::Error(invalid_argument) for tokens outside the vocabulary or beyond max_positions, and
  /// tandem::Error(invalid_state) for layers of unequal length, before anything is appended; td::Error when the
  /// runtime refuses a call.
  std::vector<float> forward(const AttentionUse& use, const std::vector<std::int32_t>& tokens,
                             std::int64_t chunk_tokens = 512);

 private:
  struct Impl;
  explicit Llama(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Threads of the BLAS library behind the matrix products; no effect on a BLAS other than OpenBLAS. Throws
/// Error(out_of_memory) where OpenBLAS would wait for ever for the memory that these threads need.
void set_blas_threads(int threads);

/// The model's vocabulary: token id = byte value, without BOS.
std::vector<std::int32_t> encode_bytes(std::string_view text);
/// The byte of a token, or '\0' when it is a special token.
char decode_byte(std::int32_t token);
/// Index of the largest logit, lowest index first.
std::int32_t argmax(const std::vector<float>& logits);

}  // namespace tandem::llama
