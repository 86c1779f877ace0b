#include "runtime/observe_queries.h"

#include <algorithm>

#include "cpu/row_layout.h"

namespace tandem {

void observe_queries(const TensorView& q, std::int64_t first_row, std::int64_t count, const AttentionShape& shape,
                     LayerState& layer, StepBuffers& buffers) {
  const std::int64_t group = shape.group_size();
  const std::int64_t padded_k = cpu::padded(shape.head_dim_k);
  const std::int64_t tokens = std::min(count, layer.heads.front().queries.max_tokens());
  buffers.observed.assign(static_cast<std::size_t>(tokens * group * padded_k), 0.f);
  for (std::size_t head = 0; head < layer.heads.size(); ++head) {
    float* vector = buffers.observed.data();
    for (std::int64_t t = count - tokens; t < count; ++t) {
      for (std::int64_t h = 0; h < group; ++h, vector += padded_k) {
        load_f32(q.dtype, q.row(first_row + t, static_cast<std::int64_t>(head) * group + h), vector, shape.head_dim_k);
        for (std::int32_t d = 0; d < shape.head_dim_k; ++d) vector[d] *= shape.scale;
      }
    }
    layer.heads[head].queries.add(layer.length() - tokens, tokens, buffers.observed.data());
  }
}

void reserve_observed(const LayerState& layer, const AttentionShape& shape, StepBuffers& buffers) {
  const std::int64_t vectors = layer.heads.front().queries.max_tokens() * shape.group_size();
  buffers.observed.reserve(static_cast<std::size_t>(vectors * cpu::padded(shape.head_dim_k)));
}

}  // namespace tandem
