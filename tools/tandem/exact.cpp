#include "tools/tandem/exact.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "cpu/reference_attention.h"
#include "tools/tandem/parallel.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kChunk = 1 << 14;  // keys that are held in double precision at a time

/// Tokens [first, first + count) of one head of `tensor` (heads, tokens, dim), appended to `rows` as doubles.
void append_rows(const tools::Tensor& tensor, std::int64_t head, std::int64_t first, std::int64_t count,
                 std::vector<double>& rows) {
  const std::int64_t dim = tensor.shape[2];
  std::vector<float> buffer(static_cast<std::size_t>(count * dim));
  const auto offset = (head * tensor.shape[1] + first) * dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
  load_f32(tensor.dtype, tensor.data + offset, buffer.data(), count * dim);
  rows.insert(rows.end(), buffer.begin(), buffer.end());
}

/// Keys [first, first + count) of one head: the prompt, then the decode rows.
std::vector<double> chunk_of(const tools::Tensor& prompt, const tools::Tensor& decode, std::int64_t head,
                             std::int64_t first, std::int64_t count) {
  std::vector<double> rows;
  const std::int64_t in_prompt = std::clamp<std::int64_t>(prompt.shape[1] - first, 0, count);
  append_rows(prompt, head, first, in_prompt, rows);
  append_rows(decode, head, first + in_prompt - prompt.shape[1], count - in_prompt, rows);
  return rows;
}

std::span<const double> rows_of(const std::vector<double>& rows, std::int64_t first, std::int64_t count,
                                std::int64_t dim) {
  return std::span(rows).subspan(static_cast<std::size_t>(first * dim), static_cast<std::size_t>(count * dim));
}

/// Attention over two disjoint sets of keys becomes attention over their union.
void merge(const cpu::reference::Result& part, double* out, double& lse) {
  const double max = std::max(lse, part.lse);
  if (max == -std::numeric_limits<double>::infinity()) return;
  const double old_weight = std::exp(lse - max);
  const double new_weight = std::exp(part.lse - max);
  const double sum = old_weight + new_weight;
  for (std::size_t d = 0; d < part.out.size(); ++d) out[d] = (old_weight * out[d] + new_weight * part.out[d]) / sum;
  lse = max + std::log(sum);
}

}  // namespace

std::int64_t exact_work(const tools::TraceMeta& meta, std::int64_t steps) {
  return (meta.tokens + steps + kChunk - 1) / kChunk * steps * meta.num_q_heads;
}

ExactResults exact_decode(const tools::TraceMeta& meta, const tools::TraceLayer& layer, std::int64_t steps, int threads,
                          Progress& progress) {
  const std::int64_t group = meta.num_q_heads / meta.num_kv_heads;
  ExactResults results;
  results.out.resize(static_cast<std::size_t>(steps * meta.num_q_heads * meta.head_dim_v));
  results.lse.resize(static_cast<std::size_t>(steps * meta.num_q_heads), -std::numeric_limits<double>::infinity());

  for (std::int64_t kv_head = 0; kv_head < meta.num_kv_heads; ++kv_head) {
    std::vector<double> q;
    for (std::int64_t g = 0; g < group; ++g) append_rows(layer.dec_q, kv_head * group + g, 0, steps, q);
    for (std::int64_t first = 0; first < meta.tokens + steps; first += kChunk) {
      const std::int64_t count = std::min(kChunk, meta.tokens + steps - first);
      const auto k = chunk_of(layer.k, layer.dec_k, kv_head, first, count);
      const auto v = chunk_of(layer.v, layer.dec_v, kv_head, first, count);
      parallel_for(group * steps, threads, progress, [&](std::int64_t task) {
        const std::int64_t step = task % steps;
        const std::int64_t row = step * meta.num_q_heads + kv_head * group + task / steps;
        const std::int64_t visible = std::min(count, meta.tokens + step + 1 - first);
        if (visible <= 0) return;
        const auto part = cpu::reference::attention({.q = rows_of(q, task, 1, meta.head_dim_k),
                                                     .k = rows_of(k, 0, visible, meta.head_dim_k),
                                                     .v = rows_of(v, 0, visible, meta.head_dim_v),
                                                     .biases = {},
                                                     .scale = meta.scale},
                                                    meta.head_dim_v);
        merge(part, results.out.data() + row * meta.head_dim_v, results.lse[static_cast<std::size_t>(row)]);
      });
    }
  }
  return results;
}

}  // namespace tandem::cli
