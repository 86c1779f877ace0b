#include "tools/tandem/calibration_samples.h"

#include <algorithm>

#include "runtime/base/dtype.h"
#include "tools/tandem/progress.h"

namespace tandem::cli {
namespace {

/// `texts` as token sequences that the model has positions for, `tokens` tokens in all, BOS tokens included.
std::vector<std::vector<std::int32_t>> pieces_of(const std::vector<std::string>& texts, const llama::LlamaConfig& model,
                                                 std::int64_t tokens) {
  std::vector<std::vector<std::int32_t>> pieces;
  for (const std::string& text : texts) {
    const auto all = llama::encode_bytes(text);
    for (std::size_t begin = 0; begin < all.size() && tokens > 0;) {
      std::vector<std::int32_t> piece;
      if (model.bos_token >= 0) piece.push_back(model.bos_token);
      const auto room = std::min<std::int64_t>(tokens, model.max_positions) - static_cast<std::int64_t>(piece.size());
      const std::size_t end = std::min(all.size(), begin + static_cast<std::size_t>(std::max<std::int64_t>(room, 0)));
      piece.insert(piece.end(), all.begin() + static_cast<std::ptrdiff_t>(begin),
                   all.begin() + static_cast<std::ptrdiff_t>(end));
      tokens -= static_cast<std::int64_t>(piece.size());
      begin = end;
      pieces.push_back(std::move(piece));
    }
  }
  return pieces;
}

/// Row `token` of a tensor (heads, tokens, dim) as (heads, dim) fp32.
void load_token(const tools::Tensor& tensor, std::int64_t token, float* rows) {
  const std::int64_t dim = tensor.shape[2];
  for (std::int64_t h = 0; h < tensor.shape[0]; ++h) {
    const auto offset = (h * tensor.shape[1] + token) * dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
    load_f32(tensor.dtype, tensor.data + offset, rows + h * dim, dim);
  }
}

}  // namespace

void CalibrationSamples::add(std::size_t layer, std::int64_t first, std::int64_t count, const float* keys,
                             const float* values) {
  Layer& of = layers.at(layer);
  const std::int64_t row = std::int64_t{num_kv_heads} * head_dim_k;
  const std::size_t begin = of.k.size();
  of.k.insert(of.k.end(), keys, keys + count * row);
  of.v.insert(of.v.end(), values, values + count * num_kv_heads * head_dim_v);
  float* key = of.k.data() + begin;
  for (std::int64_t i = 0; i < count * num_kv_heads; ++i, key += head_dim_k)
    cpu::rotate(rope, head_dim_k, -(first + i / num_kv_heads), key);
}

CalibrationSamples samples_of_model(llama::Llama& model, const td::Runtime& runtime,
                                    const std::vector<std::string>& texts, std::int64_t tokens) {
  const llama::LlamaConfig& config = model.config();
  CalibrationSamples samples;
  samples.num_kv_heads = config.num_kv_heads;
  samples.head_dim_k = samples.head_dim_v = config.head_dim;
  samples.rope = {static_cast<double>(config.rope_theta), config.head_dim, false};
  samples.layers.resize(static_cast<std::size_t>(config.num_layers));
  const auto pieces = pieces_of(texts, config, tokens);
  for (const auto& piece : pieces) samples.tokens += static_cast<std::int64_t>(piece.size());
  Progress progress("reading", samples.tokens);
  std::int64_t before = 0;
  for (const auto& piece : pieces) {
    const td::Sequence sequence(runtime);
    llama::AttentionUse use{
        .runtime = runtime, .sequence = sequence, .parts = TD_PART_ALL | TD_EXACT, .recorder = {}, .progress = {}};
    use.recorder = [&samples](const llama::AttentionRecord& r) {
      samples.add(static_cast<std::size_t>(r.layer), r.first_position, r.tokens, r.k, r.v);
    };
    use.progress = [&](std::int64_t done) { progress.update(before + done); };
    model.forward(use, piece);
    before += static_cast<std::int64_t>(piece.size());
  }
  return samples;
}

CalibrationSamples samples_of_trace(const tools::Trace& trace, const cpu::RopeParams& rope, std::int64_t tokens) {
  const tools::TraceMeta& meta = trace.meta;
  CalibrationSamples samples;
  samples.num_kv_heads = meta.num_kv_heads;
  samples.head_dim_k = meta.head_dim_k;
  samples.head_dim_v = meta.head_dim_v;
  samples.rope = rope;
  samples.layers.resize(trace.layers.size());
  samples.tokens = std::min(tokens, meta.tokens);
  Progress progress("reading", samples.tokens * static_cast<std::int64_t>(trace.layers.size()));
  std::vector<float> k(static_cast<std::size_t>(meta.num_kv_heads * meta.head_dim_k)),
      v(static_cast<std::size_t>(meta.num_kv_heads * meta.head_dim_v));
  for (std::size_t layer = 0; layer < trace.layers.size(); ++layer) {
    for (std::int64_t token = meta.tokens - samples.tokens; token < meta.tokens; ++token) {
      load_token(trace.layers[layer].k, token, k.data());
      load_token(trace.layers[layer].v, token, v.data());
      samples.add(layer, token, 1, k.data(), v.data());
      progress.advance();
    }
  }
  return samples;
}

}  // namespace tandem::cli
