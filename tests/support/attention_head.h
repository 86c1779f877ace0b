#pragma once

#include <cstdint>
#include <vector>

#include "cpu/reference_attention.h"
#include "tests/support/store_fixture.h"

namespace tandem::testing {

/// Random keys, values and queries of one KV head and its group, with the rows in a store.
struct AttentionHead {
  AttentionHead(int head_dim, int group, DType dtype, std::int64_t rows)
      : AttentionHead(head_dim, head_dim, group, dtype, rows) {}
  AttentionHead(int dim_k, int dim_v, int group, DType dtype, std::int64_t rows, double key_scale = 1.0,
                double value_scale = 1.0)
      : shape(resolved({1, group, 1, dim_k, dim_v, 0.f, 0.f})), fixture(shape, dtype) {
    CounterRandom random(static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(dim_k));
    k = representable_normals(random, rows * dim_k, dtype, key_scale);
    v = representable_normals(random, rows * dim_v, dtype, value_scale);
    q = representable_normals(random, std::int64_t{group} * dim_k, DType::f32);
    scaled = padded_queries(q, dim_k, shape.scale);
    fixture.append(k, v);
  }

  /// The oracle of one head; `biases` (rows) are added to its logits, or empty.
  [[nodiscard]] cpu::reference::Result expected(int head, const std::vector<double>& biases,
                                                double softcap = 0.0) const {
    const auto d = static_cast<std::ptrdiff_t>(shape.head_dim_k);
    const std::vector<double> query(q.begin() + head * d, q.begin() + (head + 1) * d);
    return cpu::reference::attention({query, to_double(k), to_double(v), biases, shape.scale, softcap},
                                     shape.head_dim_v);
  }
  /// scale * <q, k> of one head and row, in double.
  [[nodiscard]] double logit(int head, std::int64_t row) const {
    double dot = 0;
    for (std::int64_t d = 0; d < shape.head_dim_k; ++d) {
      dot += static_cast<double>(q[static_cast<std::size_t>(head * shape.head_dim_k + d)]) *
             k[static_cast<std::size_t>(row * shape.head_dim_k + d)];
    }
    return dot * shape.scale;
  }
  [[nodiscard]] const float* value(std::int64_t row) const { return v.data() + row * shape.head_dim_v; }

  AttentionShape shape;
  StoreFixture fixture;
  std::vector<float> k, v, q;
  cpu::AlignedVector<float> scaled;
};

}  // namespace tandem::testing
