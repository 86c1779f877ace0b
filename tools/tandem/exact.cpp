#include "tools/tandem/exact.h"

#include <algorithm>
#include <span>

#include "cpu/reference_attention.h"
#include "tools/tandem/parallel.h"

namespace tandem::cli {
namespace {

/// Rows of one head of `tensor` (heads, tokens, dim), appended to `rows` as doubles.
void append_rows(const tools::Tensor& tensor, std::int64_t head, std::int64_t tokens, std::vector<double>& rows) {
  const std::int64_t dim = tensor.shape[2];
  std::vector<float> buffer(static_cast<std::size_t>(tokens * dim));
  const auto offset = head * tensor.shape[1] * dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
  load_f32(tensor.dtype, tensor.data + offset, buffer.data(), tokens * dim);
  rows.insert(rows.end(), buffer.begin(), buffer.end());
}

std::span<const double> rows_of(const std::vector<double>& rows, std::int64_t first, std::int64_t count,
                                std::int64_t dim) {
  return std::span(rows).subspan(static_cast<std::size_t>(first * dim), static_cast<std::size_t>(count * dim));
}

}  // namespace

ExactResults exact_decode(const tools::TraceMeta& meta, const tools::TraceLayer& layer, std::int64_t steps, int threads,
                          Progress& progress) {
  const std::int64_t group = meta.num_q_heads / meta.num_kv_heads;
  ExactResults results;
  results.out.resize(static_cast<std::size_t>(steps * meta.num_q_heads * meta.head_dim_v));
  results.lse.resize(static_cast<std::size_t>(steps * meta.num_q_heads));

  for (std::int64_t kv_head = 0; kv_head < meta.num_kv_heads; ++kv_head) {
    std::vector<double> k, v, q;
    append_rows(layer.k, kv_head, meta.tokens, k);
    append_rows(layer.dec_k, kv_head, steps, k);
    append_rows(layer.v, kv_head, meta.tokens, v);
    append_rows(layer.dec_v, kv_head, steps, v);
    for (std::int64_t g = 0; g < group; ++g) append_rows(layer.dec_q, kv_head * group + g, steps, q);

    parallel_for(group * steps, threads, progress, [&](std::int64_t task) {
      const std::int64_t step = task % steps;
      const std::int64_t row = step * meta.num_q_heads + kv_head * group + task / steps;
      const std::int64_t keys = meta.tokens + step + 1;
      const auto result = cpu::reference::attention({.q = rows_of(q, task, 1, meta.head_dim_k),
                                                     .k = rows_of(k, 0, keys, meta.head_dim_k),
                                                     .v = rows_of(v, 0, keys, meta.head_dim_v),
                                                     .biases = {},
                                                     .scale = meta.scale},
                                                    meta.head_dim_v);
      std::copy(result.out.begin(), result.out.end(), results.out.begin() + row * meta.head_dim_v);
      results.lse[static_cast<std::size_t>(row)] = result.lse;
    });
  }
  return results;
}

}  // namespace tandem::cli
