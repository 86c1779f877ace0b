#include "runtime/task_results.h"

#include "cpu/row_layout.h"

namespace tandem {

void load_group(const TensorView& q, std::int64_t row, std::int64_t head, const AttentionShape& shape,
                float* vectors) noexcept {
  const std::int64_t group = shape.group_size();
  const std::int64_t padded_k = cpu::padded(shape.head_dim_k);
  for (std::int64_t h = 0; h < group; ++h, vectors += padded_k) {
    load_f32(q.dtype, q.row(row, head * group + h), vectors, shape.head_dim_k);
    for (std::int32_t d = 0; d < shape.head_dim_k; ++d) vectors[d] *= shape.scale;
  }
}

void write_group(const AttendRequest& request, const AttentionShape& shape, std::int64_t row, std::int64_t head,
                 ConstPartialAttention result) {
  for (std::int64_t h = 0; h < result.rows; ++h) {
    const std::int64_t q_head = head * result.rows + h;
    store_f32(request.out.dtype, result.out + h * result.dim, request.out.row(row, q_head), result.dim);
    if (request.lse != nullptr) request.lse[row * shape.num_q_heads + q_head] = result.lse[h];
  }
}

}  // namespace tandem
