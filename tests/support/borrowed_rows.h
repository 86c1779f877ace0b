#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "runtime/runtime.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {

/// An engine's cache of one layer: rows (cells, heads, dim) of fp32 K and V that it writes where it likes.
class EngineRows {
 public:
  EngineRows(const AttentionShape& shape, std::int64_t cells)
      : shape_(shape),
        cells_(cells),
        k_(static_cast<std::size_t>(cells * k_width()), 0.f),
        v_(static_cast<std::size_t>(cells * v_width()), 0.f) {}

  /// Writes tokens to the cells of `places`, in order.
  void write(const TokenSource::Tokens& tokens, const std::vector<std::int64_t>& places) {
    for (std::size_t t = 0; t < places.size(); ++t) {
      const auto from = static_cast<std::int64_t>(t);
      std::copy_n(tokens.k.begin() + from * k_width(), k_width(), k_.begin() + places[t] * k_width());
      std::copy_n(tokens.v.begin() + from * v_width(), v_width(), v_.begin() + places[t] * v_width());
    }
  }
  /// The tokens in the cells of `places`.
  [[nodiscard]] ReferenceSequence sequence(const std::vector<std::int64_t>& places) const {
    ReferenceSequence reference(shape_);
    for (const std::int64_t p : places) reference.append(rows_of(k_, p, 1, k_width()), rows_of(v_, p, 1, v_width()));
    return reference;
  }
  [[nodiscard]] KvView view() const {
    return {dense_view(k_.data(), DType::f32, cells_, shape_.num_kv_heads, shape_.head_dim_k),
            dense_view(v_.data(), DType::f32, cells_, shape_.num_kv_heads, shape_.head_dim_v)};
  }
  [[nodiscard]] float* key(std::int64_t cell) { return k_.data() + cell * k_width(); }
  [[nodiscard]] std::int64_t cells() const { return cells_; }

 private:
  [[nodiscard]] std::int64_t k_width() const { return std::int64_t{shape_.num_kv_heads} * shape_.head_dim_k; }
  [[nodiscard]] std::int64_t v_width() const { return std::int64_t{shape_.num_kv_heads} * shape_.head_dim_v; }

  AttentionShape shape_;
  std::int64_t cells_;
  std::vector<float> k_, v_;
};

/// One query for each of `lists`, which are rows of the pool.
inline Attended attend_rows(Runtime& runtime, std::uint64_t pool, const std::vector<std::vector<std::int64_t>>& lists,
                            const std::vector<float>& q, const std::function<void(AttendRowsRequest&)>& change = {}) {
  const AttentionShape& shape = runtime.config().shape;
  std::vector<std::int64_t> rows, begin{0};
  for (const auto& list : lists) {
    rows.insert(rows.end(), list.begin(), list.end());
    begin.push_back(static_cast<std::int64_t>(rows.size()));
  }
  const auto queries = static_cast<std::int64_t>(lists.size());
  Attended result;
  result.out.resize(static_cast<std::size_t>(queries * shape.num_q_heads * shape.head_dim_v));
  result.lse.resize(static_cast<std::size_t>(queries * shape.num_q_heads));
  AttendRowsRequest request;
  request.pool = pool;
  request.visible.kind = Visibility::Kind::rows;
  request.visible.num_queries = queries;
  request.visible.rows = rows.data();
  request.visible.row_begin = begin.data();
  request.q = dense_view(q.data(), DType::f32, queries, shape.num_q_heads, shape.head_dim_k);
  request.out = dense_view(result.out.data(), DType::f32, queries, shape.num_q_heads, shape.head_dim_v);
  request.lse = result.lse.data();
  if (change) change(request);
  result.stats = runtime.attend_rows(request);
  return result;
}

inline std::vector<std::int64_t> counting(std::int64_t count, std::int64_t first = 0) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

}  // namespace tandem::testing
