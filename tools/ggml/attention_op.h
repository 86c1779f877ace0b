#pragma once

#include <cstdint>

struct ggml_tensor;

namespace tandem::ggml {

/// A FLASH_ATTN_EXT in the terms of Tandem. The tensors live as long as ggml's graph.
struct AttentionOp {
  const ggml_tensor* q;      ///< f32 [head_dim_k, tokens, q heads, streams]
  const ggml_tensor* k;      ///< [head_dim_k, columns, KV heads, streams]
  const ggml_tensor* v;      ///< [head_dim_v, columns, KV heads, streams]
  const ggml_tensor* mask;   ///< f16 [columns, tokens, 1, streams or 1]; NULL: every column is visible
  const ggml_tensor* sinks;  ///< f32 [q heads]; NULL: none
  const ggml_tensor* out;    ///< f32 [head_dim_v, q heads, tokens, streams]
  float scale;
  float max_bias;  ///< ALiBi: where positive, heads multiply the mask by alibi_slope()
  float softcap;   ///< 0: none

  [[nodiscard]] std::int64_t tokens() const noexcept;
  [[nodiscard]] std::int64_t streams() const noexcept;
  [[nodiscard]] std::int64_t num_queries() const noexcept;  ///< of all streams
  [[nodiscard]] std::int64_t columns() const noexcept;
  [[nodiscard]] std::int64_t num_q_heads() const noexcept;
  [[nodiscard]] std::int64_t num_kv_heads() const noexcept;
};

AttentionOp attention_op(const ggml_tensor& node) noexcept;

/// Whether K and V are views of a KV cache, in which token t of stream s of both is the same row of their roots: the
/// first_row(op, s) + t'th.
bool reads_cache(const AttentionOp& op) noexcept;
std::int64_t first_row(const AttentionOp& op, std::int64_t stream) noexcept;

/// Whether Tandem can compute it, whatever owns K and V: types, strides, head dims and mask.
bool is_computable(const AttentionOp& op) noexcept;

/// What a head multiplies the mask with when max_bias is positive.
float alibi_slope(float max_bias, std::int64_t num_heads, std::int64_t head) noexcept;

}  // namespace tandem::ggml
