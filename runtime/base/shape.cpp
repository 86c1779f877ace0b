#include "runtime/base/shape.h"

#include <cmath>

#include "runtime/base/error.h"

namespace tandem {

void validate(const AttentionShape& shape) {
  const auto at_least_one = [](const char* field, std::int32_t value) {
    TANDEM_CHECK(value >= 1, invalid_argument, field, " is ", value, "; it must be at least 1");
  };
  const auto head_dim = [](const char* field, std::int32_t value) {
    TANDEM_CHECK(value >= 1 && value <= kMaxHeadDim, invalid_argument, field, " is ", value, "; allowed: 1 to ",
                 kMaxHeadDim);
  };
  TANDEM_CHECK(shape.num_layers >= 1 && shape.num_layers <= kMaxLayers, invalid_argument, "num_layers is ",
               shape.num_layers, "; allowed: 1 to ", kMaxLayers);
  at_least_one("num_q_heads", shape.num_q_heads);
  at_least_one("num_kv_heads", shape.num_kv_heads);
  TANDEM_CHECK(shape.num_q_heads % shape.num_kv_heads == 0, invalid_argument, "num_q_heads is ", shape.num_q_heads,
               "; it must be a multiple of num_kv_heads (", shape.num_kv_heads, ")");
  TANDEM_CHECK(shape.group_size() <= kMaxGroupSize, invalid_argument, "num_q_heads / num_kv_heads is ",
               shape.group_size(), "; at most ", kMaxGroupSize, " query heads may share a KV head");
  head_dim("head_dim_k", shape.head_dim_k);
  head_dim("head_dim_v", shape.head_dim_v);
  TANDEM_CHECK(shape.scale > 0.f && shape.scale <= kMaxScale, invalid_argument, "scale is ", shape.scale,
               "; allowed: above 0, up to ", kMaxScale, " (0 chooses 1 / sqrt(head_dim_k))");
  TANDEM_CHECK(shape.softcap == 0.f || (shape.softcap >= kMinSoftcap && std::isfinite(shape.softcap)), invalid_argument,
               "softcap is ", shape.softcap, "; it must be 0 (none), or at least ", kMinSoftcap, " and finite");
}

AttentionShape resolved(AttentionShape shape) {
  if (shape.head_dim_v == 0) shape.head_dim_v = shape.head_dim_k;
  if (shape.scale == 0.f && shape.head_dim_k > 0) shape.scale = 1.f / std::sqrt(static_cast<float>(shape.head_dim_k));
  return shape;
}

}  // namespace tandem
