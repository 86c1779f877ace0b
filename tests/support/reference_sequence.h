#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/reference_attention.h"
#include "runtime/base/dtype.h"
#include "runtime/base/random.h"
#include "runtime/base/shape.h"

namespace tandem::testing {

/// `count` normal values that `dtype` represents exactly, so that storage adds no error of its own.
inline std::vector<float> representable_normals(CounterRandom& random, std::int64_t count, DType dtype,
                                                double scale = 1.0) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) {
    x = static_cast<float>(scale * random.normal());
    if (dtype == DType::f16) x = f16_to_f32(f32_to_f16(x));
    if (dtype == DType::bf16) x = bf16_to_f32(f32_to_bf16(x));
  }
  return values;
}

/// How a reference query attends beside the shape's scale and softcap.
struct ReferenceRule {
  std::int64_t sliding_window = 0;
  std::vector<float> alibi;  // per query head, or empty
  std::vector<float> sinks;  // per query head, or empty
};

/// K and V of one layer of one sequence, and exact attention over them in double.
class ReferenceSequence {
 public:
  explicit ReferenceSequence(const AttentionShape& shape) : shape_(shape) {}

  /// k (tokens, num_kv_heads, head_dim_k), v (tokens, num_kv_heads, head_dim_v).
  void append(const std::vector<float>& k, const std::vector<float>& v) {
    k_.insert(k_.end(), k.begin(), k.end());
    v_.insert(v_.end(), v.begin(), v.end());
  }
  void truncate(std::int64_t tokens) {
    k_.resize(static_cast<std::size_t>(tokens * shape_.num_kv_heads * shape_.head_dim_k));
    v_.resize(static_cast<std::size_t>(tokens * shape_.num_kv_heads * shape_.head_dim_v));
  }
  [[nodiscard]] std::int64_t length() const {
    return static_cast<std::int64_t>(k_.size()) / (std::int64_t{shape_.num_kv_heads} * shape_.head_dim_k);
  }

  /// One query vector (head_dim_k) of head `q_head` at `position`.
  [[nodiscard]] cpu::reference::Result attend(const float* q, int q_head, std::int64_t position,
                                              const ReferenceRule& rule = {}) const {
    const std::int64_t first =
        rule.sliding_window > 0 ? std::max<std::int64_t>(0, position - rule.sliding_window + 1) : 0;
    std::vector<std::int64_t> positions;
    std::vector<double> biases;
    for (std::int64_t p = first; p <= position; ++p) {
      positions.push_back(p);
      const double slope = rule.alibi.empty() ? 0.0 : rule.alibi[static_cast<std::size_t>(q_head)];
      biases.push_back(slope * static_cast<double>(p - position));
    }
    auto result = attend_over(q, q_head, positions, biases);
    if (!rule.sinks.empty()) add_sink(rule.sinks[static_cast<std::size_t>(q_head)], result);
    return result;
  }

  /// Likewise, over the tokens at `positions` alone; `biases` are added to their logits, or empty.
  [[nodiscard]] cpu::reference::Result attend_over(const float* q, int q_head,
                                                   const std::vector<std::int64_t>& positions,
                                                   const std::vector<double>& biases = {}) const {
    std::vector<double> query(q, q + shape_.head_dim_k), keys, values;
    for (const std::int64_t p : positions) {
      const float* k = key(p, q_head / shape_.group_size());
      const float* v = value(p, q_head / shape_.group_size());
      keys.insert(keys.end(), k, k + shape_.head_dim_k);
      values.insert(values.end(), v, v + shape_.head_dim_v);
    }
    const AttentionShape shape = resolved(shape_);
    return cpu::reference::attention({query, keys, values, biases, shape.scale, shape.softcap}, shape.head_dim_v);
  }
  /// logit of one query vector and the token at `position`.
  [[nodiscard]] double logit(const float* q, int q_head, std::int64_t position) const {
    const float* k = key(position, q_head / shape_.group_size());
    double sum = 0;
    for (std::int32_t d = 0; d < shape_.head_dim_k; ++d) sum += static_cast<double>(q[d]) * k[d];
    return sum * resolved(shape_).scale;
  }
  [[nodiscard]] const float* key(std::int64_t position, std::int64_t head) const {
    return k_.data() + (position * shape_.num_kv_heads + head) * shape_.head_dim_k;
  }
  [[nodiscard]] const float* value(std::int64_t position, std::int64_t head) const {
    return v_.data() + (position * shape_.num_kv_heads + head) * shape_.head_dim_v;
  }
  [[nodiscard]] const AttentionShape& shape() const { return shape_; }

 private:
  static void add_sink(double sink, cpu::reference::Result& result) {
    const double top = std::max(sink, result.lse);
    const double lse = top + std::log(std::exp(sink - top) + std::exp(result.lse - top));
    for (double& x : result.out) x *= std::exp(result.lse - lse);
    result.lse = lse;
  }

  AttentionShape shape_;
  std::vector<float> k_, v_;
};

/// ||a - b||.
inline double distance(const float* a, const std::vector<double>& b) {
  double square = 0;
  for (std::size_t i = 0; i < b.size(); ++i) square += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(square);
}

/// ||a - b|| / ||b||, or ||a - b|| when b is zero.
inline double relative_error(const float* a, const std::vector<double>& b) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace tandem::testing
