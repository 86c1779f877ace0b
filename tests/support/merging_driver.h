#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/support/reference_entries.h"

namespace tandem::testing {

inline constexpr double kTheta = 10000.0;

/// A model that merges tokens, and its window.
struct MergingCase {
  AttentionShape shape;
  gpu::DmcSource form;
  std::int32_t sinks, local;
  std::vector<double> merging;  ///< probability, by KV head
  int window = 12;
};

inline Config config_of(const MergingCase& c, bool host_tier, lsh::SelectorParams selector = lsh::SelectAllParams{}) {
  Config config;
  config.shape = resolved(c.shape);
  config.window.sink_tokens = c.sinks;
  config.window.local_tokens = c.local;
  config.window.merge.emplace();
  config.window.merge->source = c.form;
  config.window.merge->window = c.window;
  config.rope.theta = kTheta;
  config.host_tier = host_tier;
  config.selector = std::move(selector);
  config.never_slower = false;
  config.num_workers = 2;
  return config;
}

constexpr AttentionShape shape_of(int q_heads, int kv_heads, int dim) {
  return {1, q_heads, kv_heads, dim, dim, 0.f, 0.f};
}

inline MergingCase usual(gpu::DmcSource form = gpu::DmcSource::external, std::int32_t local = 32) {
  return {shape_of(4, 2, 64), form, 4, local, {0.3, 0.7}};
}

inline StepStats append(Runtime& runtime, std::uint64_t sequence, const MergingTokens& t) {
  return append(runtime, sequence, t.kv.k, t.kv.v, 0, t.input);
}

/// Tokens [first, first + count) of `t`.
inline MergingTokens part_of(const MergingTokens& t, std::int64_t first, std::int64_t count,
                             const AttentionShape& shape) {
  const auto rows = [&](const std::vector<float>& x, std::int64_t width) {
    return x.empty() ? x : rows_of(x, first, count, width);
  };
  const std::int64_t heads = shape.num_kv_heads;
  MergingTokens part{slice(t.kv, first, count, shape), {}, {}, {}};
  part.input = {{},
                rows(t.input.merge, heads),
                rows(t.input.importance, heads),
                rows(t.input.q, std::int64_t{shape.num_q_heads} * shape.head_dim_k)};
  part.merges = {t.merges.begin() + first * heads, t.merges.begin() + (first + count) * heads};
  part.weights = {t.weights.begin() + first * heads, t.weights.begin() + (first + count) * heads};
  return part;
}

/// Entries of a window that have left it: whole pages of 64, as few as let the others fit.
inline std::int64_t left_of(std::int64_t finished, const MergingCase& c) {
  const std::int64_t excess = finished - c.sinks - c.local - 64;
  return excess <= 0 ? 0 : (excess + 63) / 64 * 64;
}

/// The larger error of the last `count` queries; without a host tier, what has left a window is not there.
inline double error_of(const Attended& attended, const std::vector<float>& q, std::int64_t count,
                       const ReferenceEntries& reference, const MergingCase& c, bool host_tier) {
  double worst = 0;
  for (std::int64_t row = 0; row < count * c.shape.num_q_heads; ++row) {
    const auto h = static_cast<int>(row % c.shape.num_q_heads);
    const std::int64_t entries = reference.entries(static_cast<std::size_t>(h / c.shape.group_size()));
    const std::int64_t gone = host_tier ? 0 : left_of(entries - 1, c);
    const auto expected =
        reference.attend(q.data() + row * c.shape.head_dim_k, h, reference.length() - count + row / c.shape.num_q_heads,
                         c.sinks, c.sinks + gone);
    worst = std::max({worst, relative_error(attended.out.data() + row * c.shape.head_dim_v, expected.out),
                      std::abs(attended.lse[static_cast<std::size_t>(row)] - expected.lse)});
  }
  return worst;
}

}  // namespace tandem::testing
