#include "runtime/observe_queries.h"

#include <algorithm>

#include "cpu/row_layout.h"
#include "runtime/task_results.h"

namespace tandem {

void observe_queries(const TensorView& q, std::int64_t first_row, std::int64_t count, const AttentionShape& shape,
                     LayerState& layer, std::int64_t length, StepBuffers& buffers) {
  const std::int64_t group = shape.group_size();
  const std::int64_t padded_k = cpu::padded(shape.head_dim_k);
  const std::int64_t tokens = std::min(count, layer.heads.front().queries.max_tokens());
  buffers.observed.assign(static_cast<std::size_t>(tokens * group * padded_k), 0.f);
  for (std::size_t head = 0; head < layer.heads.size(); ++head) {
    float* vector = buffers.observed.data();
    for (std::int64_t t = count - tokens; t < count; ++t) {
      load_group(q, first_row + t, static_cast<std::int64_t>(head), shape, vector);
      vector += group * padded_k;
    }
    layer.heads[head].queries.add(length - tokens, tokens, buffers.observed.data());
  }
}

void reserve_observed(const LayerState& layer, const AttentionShape& shape, StepBuffers& buffers) {
  const std::int64_t vectors = layer.heads.front().queries.max_tokens() * shape.group_size();
  buffers.observed.reserve(static_cast<std::size_t>(vectors * cpu::padded(shape.head_dim_k)));
}

}  // namespace tandem
