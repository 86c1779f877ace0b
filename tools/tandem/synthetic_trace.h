#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/base/dtype.h"
#include "tools/formats/trace.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/small_matrix.h"
#include "tools/tandem/synthetic_head.h"

namespace tandem::cli {

struct SyntheticShape {
  std::int64_t tokens = 32768;
  std::int64_t steps = 64;
  std::int64_t query_tail = 64;  ///< prompt tokens at the end that have queries; at most `tokens` of them
  std::int32_t num_kv_heads = 8;
  std::int32_t num_q_heads = 32;
  std::int32_t head_dim = 128;
  DType dtype = DType::bf16;
  std::uint64_t seed = 1;
  std::optional<HeadKind> kind;  ///< of every head; none: KV head i has kind i mod 6
};

/// One layer of made-up heads that are hard in the ways real ones are (synthetic_head.h).
///
/// Every query is scaled to the logit spread of its head's kind. Retrieval heads hold needles: three spans of 1 to 4
/// keys for each decode step, pushed along the mean query of its group to 9 to 11 nats. The first four tokens are sinks
/// of tiny values that take about 45 % of every query's mass. Prompts below 256 tokens have neither. q_tail is made
/// like the decode queries. Holds the tensors and no other copy of them. The same numbers for the same shape and seed,
/// whatever the threads.
class SyntheticTrace {
 public:
  /// Throws Interrupted after Ctrl-C.
  SyntheticTrace(const SyntheticShape& shape, int threads);

  [[nodiscard]] const tools::TraceMeta& meta() const noexcept { return meta_; }
  /// Views into this object: k, v, q_tail, dec_q, dec_k, dec_v, already rounded to the dtype.
  [[nodiscard]] tools::TraceLayer layer() const;

 private:
  /// The queries of one group, fp32, until they are rounded: (q_tail then decode steps, group, head_dim).
  using Queries = std::vector<float>;

  void allocate();
  void make_rows(const SyntheticHead& head, std::int64_t kv_head, std::int64_t first, std::int64_t count);
  [[nodiscard]] Moments key_moments(std::int64_t kv_head) const;
  [[nodiscard]] Queries make_queries(const SyntheticHead& head, const Moments& moments) const;
  void plant_needles(const SyntheticHead& head, std::int64_t kv_head, const Queries& queries);
  void make_sinks(std::int64_t kv_head, const Moments& moments, const std::vector<double>& lse, Queries& queries);
  void store_queries(std::int64_t kv_head, const Queries& queries);

  [[nodiscard]] std::byte* row_of(std::vector<std::byte>& tensor, std::int64_t row) const;
  void load(const std::vector<std::byte>& tensor, std::int64_t row, std::int64_t count, float* values) const;
  [[nodiscard]] std::int64_t group() const noexcept { return shape_.num_q_heads / shape_.num_kv_heads; }
  [[nodiscard]] std::int64_t positions() const noexcept { return shape_.query_tail + shape_.steps; }
  /// LSE of queries [first, first + count) over the prompt without its sinks.
  void mass_of(std::int64_t kv_head, const Queries& queries, std::int64_t first, std::int64_t count,
               std::vector<double>& lse) const;

  SyntheticShape shape_;
  tools::TraceMeta meta_;
  std::vector<std::byte> k_, v_, q_tail_, dec_q_, dec_k_, dec_v_;
};

}  // namespace tandem::cli
