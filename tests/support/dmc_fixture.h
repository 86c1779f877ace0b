#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "gpu/window_policy/dmc.h"
#include "runtime/base/random.h"

namespace tandem::testing {

/// Random tokens of one KV head and its group, with decisions that merge with probability `merge`.
struct DmcText {
  DmcText(std::int64_t num_tokens, int dims_k, int dims_v, double merge, int num_heads = 1, std::uint64_t seed = 1)
      : tokens(num_tokens), dim_k(dims_k), dim_v(dims_v), group(num_heads) {
    CounterRandom random(seed, static_cast<std::uint64_t>(dims_k));
    const auto draw = [&](std::int64_t count) {
      std::vector<float> x(static_cast<std::size_t>(count));
      for (float& value : x) value = static_cast<float>(random.normal());
      return x;
    };
    q = draw(tokens * group * dim_k), k = draw(tokens * dim_k), v = draw(tokens * dim_v);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const auto weight = static_cast<float>(1 / (1 + std::exp(-2 * random.normal())));
      decisions.push_back({random.uniform() < merge, weight});
    }
  }

  /// Tokens [first, last).
  [[nodiscard]] gpu::DmcTokens slice(std::int64_t first, std::int64_t last) const {
    const auto part = [&](const std::vector<float>& x, std::int64_t dim) {
      return std::span(x).subspan(static_cast<std::size_t>(first * dim),
                                  static_cast<std::size_t>((last - first) * dim));
    };
    return {part(k, dim_k), part(v, dim_v),
            std::span(decisions).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first))};
  }
  [[nodiscard]] bool begins_entry(std::int64_t t) const {
    return t == 0 || !decisions[static_cast<std::size_t>(t)].merge;
  }
  /// The windowed average in double, by the book: over the last `window` tokens, at most, of the run that ends with
  /// `t`.
  [[nodiscard]] std::vector<double> average(std::int64_t t, int window, const std::vector<float>& x, int dim) const {
    std::vector<double> sum(static_cast<std::size_t>(dim));
    double weights = 0;
    for (std::int64_t j = t; j > t - window; --j) {
      const double w = decisions[static_cast<std::size_t>(j)].weight;
      weights += w;
      for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += w * x[static_cast<std::size_t>(j * dim) + d];
      if (begins_entry(j)) break;
    }
    for (double& value : sum) value /= weights;
    return sum;
  }

  std::int64_t tokens;
  int dim_k, dim_v, group;
  std::vector<float> q, k, v;
  std::vector<gpu::DmcDecision> decisions;
};

/// What a DmcHead gave for each token.
struct DmcResults {
  std::vector<float> keys, values;
  std::vector<gpu::DmcEntry> entries;

  void append(gpu::DmcHead& head, const DmcText& text, std::int64_t first, std::int64_t last) {
    std::vector<float> new_keys(static_cast<std::size_t>((last - first) * text.dim_k));
    std::vector<float> new_values(static_cast<std::size_t>((last - first) * text.dim_v));
    std::vector<gpu::DmcEntry> new_entries(static_cast<std::size_t>(last - first));
    head.append(text.slice(first, last), new_keys, new_values, new_entries);
    keys.insert(keys.end(), new_keys.begin(), new_keys.end());
    values.insert(values.end(), new_values.begin(), new_values.end());
    entries.insert(entries.end(), new_entries.begin(), new_entries.end());
  }
};

/// RoPE of the Llama kind in double.
inline std::vector<double> rotated_in_double(std::vector<double> x, double theta, std::int64_t position) {
  const std::size_t half = x.size() / 2;
  for (std::size_t i = 0; i < half && theta > 0; ++i) {
    const double angle =
        static_cast<double>(position) * std::pow(theta, -static_cast<double>(i) / static_cast<double>(half));
    const double a = x[i], b = x[i + half];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + half] = b * std::cos(angle) + a * std::sin(angle);
  }
  return x;
}

/// Likewise, the last element 0 before and after.
inline std::vector<double> rotated_without_last(std::vector<double> x, double theta, std::int64_t position) {
  x.back() = 0;
  x = rotated_in_double(std::move(x), theta, position);
  x.back() = 0;
  return x;
}

}  // namespace tandem::testing
