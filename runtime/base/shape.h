#pragma once

#include <cstdint>

namespace tandem {

/// Query heads of one GQA group may not exceed the bits of a selection's head mask.
inline constexpr std::int32_t kMaxGroupSize = 64;
inline constexpr std::int32_t kMaxHeadDim = 1024;
/// K, V and q stay below this and the scale within its bound, so that no dot product or weighted sum overflows fp32:
/// kMaxHeadDim * kMaxMagnitude^2 * kMaxScale = 1e38.
inline constexpr float kMaxMagnitude = 1e16f;
inline constexpr float kMaxScale = 1e3f;
inline constexpr float kMinSoftcap = 1e-3f;
inline constexpr std::int32_t kMaxLayers = 1 << 16;

/// The attention of one model. Query head h uses KV head h / group_size().
struct AttentionShape {
  std::int32_t num_layers = 0;
  std::int32_t num_q_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim_k = 0;
  std::int32_t head_dim_v = 0;
  float scale = 0.f;    ///< logits are scale * <q, k>; 0 means 1 / sqrt(head_dim_k)
  float softcap = 0.f;  ///< logits become softcap * tanh(logit / softcap); 0 means none

  [[nodiscard]] std::int32_t group_size() const noexcept { return num_q_heads / num_kv_heads; }
};

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate(const AttentionShape& shape);

/// `shape` with the defaults of scale and head_dim_v (0 means head_dim_k) filled in.
AttentionShape resolved(AttentionShape shape);

}  // namespace tandem
