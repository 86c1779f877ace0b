#include "tools/llama/llama.h"

#include <algorithm>

#include <cblas.h>

#include "runtime/base/error.h"
#include "tools/llama/elementwise.h"
#include "tools/llama/llama_config.h"
#include "tools/llama/stats.h"
#include "tools/llama/weights.h"

namespace tandem::llama {
namespace {

/// y (rows, outputs) = x (rows, inputs) weight^T.
void multiply(const float* x, const std::vector<float>& weight, float* y, std::int64_t rows, std::int64_t inputs) {
  const std::int64_t outputs = static_cast<std::int64_t>(weight.size()) / inputs;
  const auto m = static_cast<int>(rows);
  const auto n = static_cast<int>(outputs);
  const auto k = static_cast<int>(inputs);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.f, x, k, weight.data(), k, 0.f, y, n);
}

/// Activations of one chunk; grown to the largest chunk seen and then kept, so that a decode step allocates nothing.
struct Workspace {
  std::vector<float> x, normed, q, k, v, attended, lse, projected, gate, up;
  std::vector<float> decisions;  ///< q before RoPE, of a model that merges tokens
  RopeAngles angles;

  void reserve(const LlamaConfig& config, std::int64_t tokens) {
    const auto grow = [tokens](std::vector<float>& buffer, std::int64_t width) {
      const auto needed = static_cast<std::size_t>(tokens * width);
      if (buffer.size() < needed) buffer.resize(needed);
    };
    const std::int64_t q_size = std::int64_t{config.num_q_heads} * config.head_dim;
    const std::int64_t kv_size = std::int64_t{config.num_kv_heads} * config.head_dim;
    for (auto* buffer : {&x, &normed, &projected}) grow(*buffer, config.hidden_size);
    for (auto* buffer : {&q, &attended}) grow(*buffer, q_size);
    if (config.merge_window > 0) grow(decisions, q_size);
    for (auto* buffer : {&k, &v}) grow(*buffer, kv_size);
    for (auto* buffer : {&gate, &up}) grow(*buffer, config.intermediate_size);
    grow(lse, config.num_q_heads);
  }
};

/// Where a chunk stands in its sequence.
struct Chunk {
  const std::int32_t* tokens;
  std::int64_t count;
  std::int64_t first_position;
};

}  // namespace

struct Llama::Impl {
  LlamaConfig config;
  LlamaWeights weights;
  Workspace work;
  td_window_policy merging = td::make<td_window_policy>();

  void check_input(const AttentionUse& use, const std::vector<std::int32_t>& tokens, std::int64_t chunk_tokens) const;
  void embed(const Chunk& chunk);
  void attention_block(const AttentionUse& use, const Chunk& chunk, std::int32_t layer);
  void rotate(std::int64_t tokens);
  void append_and_attend(const AttentionUse& use, const Chunk& chunk, std::int32_t layer);
  void mlp_block(const Chunk& chunk, std::int32_t layer);
  std::vector<float> logits(std::int64_t row);
};

/// Everything that can be wrong is found here, before the first append.
void Llama::Impl::check_input(const AttentionUse& use, const std::vector<std::int32_t>& tokens,
                              std::int64_t chunk_tokens) const {
  TANDEM_CHECK(chunk_tokens >= 1, invalid_argument, "chunk_tokens is ", chunk_tokens, "; it must be at least 1");
  TANDEM_CHECK(!tokens.empty(), invalid_argument, "tokens is empty; a forward pass needs at least one");
  for (const std::int32_t token : tokens) {
    TANDEM_CHECK(token >= 0 && token < config.vocab_size, invalid_argument, "tokens holds ", token, "; allowed: 0 to ",
                 config.vocab_size - 1);
  }
  const std::int64_t length = use.sequence.length(0);
  for (std::int32_t layer = 1; layer < config.num_layers; ++layer) {
    const std::int64_t other = use.sequence.length(layer);
    TANDEM_CHECK(other == length, invalid_state, "the sequence has ", other, " tokens in layer ", layer, " and ",
                 length, " in layer 0; they must be equal");
  }
  TANDEM_CHECK(std::ssize(tokens) <= config.max_positions - length, invalid_argument, "the sequence has ", length,
               " tokens and ", tokens.size(), " more exceed max_position_embeddings (", config.max_positions, ")");
}

void Llama::Impl::embed(const Chunk& chunk) {
  const std::int64_t hidden = config.hidden_size;
  for (std::int64_t i = 0; i < chunk.count; ++i) {
    std::copy_n(weights.embedding.data() + chunk.tokens[i] * hidden, hidden, work.x.data() + i * hidden);
  }
}

void Llama::Impl::attention_block(const AttentionUse& use, const Chunk& chunk, std::int32_t layer) {
  const LayerWeights& w = weights.layers[static_cast<std::size_t>(layer)];
  const std::int64_t n = chunk.count;
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t q_size = std::int64_t{config.num_q_heads} * config.head_dim;
  const std::int64_t kv_size = std::int64_t{config.num_kv_heads} * config.head_dim;
  rms_norm(work.x.data(), w.attention_norm.data(), config.rms_norm_eps, work.normed.data(), n, hidden);
  multiply(work.normed.data(), w.q, work.q.data(), n, hidden);
  multiply(work.normed.data(), w.k, work.k.data(), n, hidden);
  multiply(work.normed.data(), w.v, work.v.data(), n, hidden);
  rotate(n);
  if (use.round_kv_to_f16) {
    round_to_f16(work.q.data(), n * q_size);
    round_to_f16(work.k.data(), n * kv_size);
    round_to_f16(work.v.data(), n * kv_size);
  }
  append_and_attend(use, chunk, layer);
  if (use.recorder) {
    use.recorder({layer, chunk.first_position, n, work.q.data(), work.k.data(), work.v.data(), work.attended.data(),
                  work.lse.data()});
  }
  multiply(work.attended.data(), w.o, work.projected.data(), n, q_size);
  add(work.x.data(), work.projected.data(), n * hidden);
}

/// RoPE on q and k. Where tokens are merged, k is left to the runtime, which averages keys before it rotates them, and
/// the neurons that decide take no part in q, before RoPE or after.
void Llama::Impl::rotate(std::int64_t tokens) {
  const std::int64_t heads = tokens * config.num_q_heads;
  const auto clear_neurons = [&] {
    for (std::int64_t h = 1; h <= heads; ++h) work.q[static_cast<std::size_t>(h * config.head_dim - 1)] = 0.f;
  };
  if (config.merge_window > 0) {
    std::copy_n(work.q.begin(), heads * config.head_dim, work.decisions.begin());
    clear_neurons();
  }
  apply_rope(work.angles, work.q.data(), tokens, config.num_q_heads, config.head_dim);
  if (config.merge_window > 0) {
    clear_neurons();
  } else {
    apply_rope(work.angles, work.k.data(), tokens, config.num_kv_heads, config.head_dim);
  }
}

/// The two calls that every engine makes, for each layer of each step.
void Llama::Impl::append_and_attend(const AttentionUse& use, const Chunk& chunk, std::int32_t layer) {
  const td_seq sequence = use.sequence.id();
  const auto tensor = [&](const std::vector<float>& rows, std::int32_t heads) {
    return td::tensor(rows.data(), TD_F32, chunk.count, heads, config.head_dim);
  };
  auto stats = td::make<td_stats>();
  auto append = td::make<td_append_args>();
  append.layer = layer;
  append.num_seqs = 1;
  append.seqs = &sequence;
  append.num_tokens = &chunk.count;
  append.k = tensor(work.k, config.num_kv_heads);
  append.v = tensor(work.v, config.num_kv_heads);
  append.q = tensor(config.merge_window > 0 ? work.decisions : work.q, config.num_q_heads);
  append.stats = use.stats == nullptr ? nullptr : &stats;
  use.runtime.append(append);
  if (use.stats != nullptr) add_stats(*use.stats, stats);

  stats = td::make<td_stats>();
  auto attend = td::make<td_attend_args>();
  attend.layer = layer;
  attend.parts = use.parts;
  attend.num_seqs = 1;
  attend.seqs = &sequence;
  attend.num_queries = &chunk.count;
  attend.q = tensor(work.q, config.num_q_heads);
  attend.out = tensor(work.attended, config.num_q_heads);
  attend.lse = work.lse.data();
  attend.stats = append.stats;
  use.runtime.attend(attend);
  if (use.stats != nullptr) add_stats(*use.stats, stats);
}

void Llama::Impl::mlp_block(const Chunk& chunk, std::int32_t layer) {
  const LayerWeights& w = weights.layers[static_cast<std::size_t>(layer)];
  const std::int64_t n = chunk.count;
  const std::int64_t hidden = config.hidden_size;
  rms_norm(work.x.data(), w.mlp_norm.data(), config.rms_norm_eps, work.normed.data(), n, hidden);
  multiply(work.normed.data(), w.gate, work.gate.data(), n, hidden);
  multiply(work.normed.data(), w.up, work.up.data(), n, hidden);
  swiglu(work.gate.data(), work.up.data(), n * config.intermediate_size);
  multiply(work.gate.data(), w.down, work.projected.data(), n, config.intermediate_size);
  add(work.x.data(), work.projected.data(), n * hidden);
}

std::vector<float> Llama::Impl::logits(std::int64_t row) {
  const std::int64_t hidden = config.hidden_size;
  std::vector<float> result(static_cast<std::size_t>(config.vocab_size));
  rms_norm(work.x.data() + row * hidden, weights.final_norm.data(), config.rms_norm_eps, work.normed.data(), 1, hidden);
  multiply(work.normed.data(), weights.head.empty() ? weights.embedding : weights.head, result.data(), 1, hidden);
  return result;
}

Llama Llama::load(const std::filesystem::path& folder) {
  auto impl = std::make_unique<Impl>();
  impl->config = load_config(folder / "config.json");
  impl->weights = load_weights(folder / "model.safetensors", impl->config);
  impl->merging.kind = TD_POLICY_DMC;
  impl->merging.decisions = TD_DECISIONS_LAST_NEURON;
  impl->merging.merge_window = impl->config.merge_window;
  return Llama(std::move(impl));
}

Llama::Llama(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Llama::Llama(Llama&&) noexcept = default;
Llama& Llama::operator=(Llama&&) noexcept = default;
Llama::~Llama() = default;

const LlamaConfig& Llama::config() const noexcept { return impl_->config; }

td_config Llama::attention_config() const {
  auto config = td::make<td_config>();
  config.abi = TANDEM_ABI;
  config.num_layers = impl_->config.num_layers;
  config.num_q_heads = impl_->config.num_q_heads;
  config.num_kv_heads = impl_->config.num_kv_heads;
  config.head_dim_k = impl_->config.head_dim;
  config.rope_theta = impl_->config.rope_theta;
  if (impl_->config.merge_window > 0) config.window_policy = &impl_->merging;
  return config;
}

std::vector<float> Llama::forward(const AttentionUse& use, const std::vector<std::int32_t>& tokens,
                                  std::int64_t chunk_tokens) {
  impl_->check_input(use, tokens, chunk_tokens);
  const LlamaConfig& config = impl_->config;
  const std::int64_t start = use.sequence.length(0);
  const std::int64_t total = std::ssize(tokens);
  std::int64_t done = 0;
  std::int64_t last_row = 0;
  while (done < total) {
    const Chunk chunk{tokens.data() + done, std::min(chunk_tokens, total - done), start + done};
    impl_->work.reserve(config, chunk.count);
    compute_angles(chunk.first_position, chunk.count, config.head_dim, config.rope_theta, impl_->work.angles);
    impl_->embed(chunk);
    for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
      impl_->attention_block(use, chunk, layer);
      impl_->mlp_block(chunk, layer);
    }
    done += chunk.count;
    last_row = chunk.count - 1;
    if (use.progress) use.progress(done);
  }
  return impl_->logits(last_row);
}

}  // namespace tandem::llama
