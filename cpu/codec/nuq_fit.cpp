#include "cpu/codec/nuq_fit.h"

#include <algorithm>
#include <cmath>

#include "cpu/codec/k_means.h"
#include "runtime/base/error.h"

namespace tandem::cpu {
namespace {

/// Normalised elements with their weights, if there are any.
struct Normalised {
  std::vector<float> points, weights;

  /// Leaves outliers out, and elements of constant ranges, which any level stands for.
  void add(float x, NuqRange range, const float* weight) {
    if (range.scale == 0.f) return;
    const double point =
        (static_cast<double>(x) - static_cast<double>(range.offset)) / static_cast<double>(range.scale);
    if (std::abs(point) > 1) return;
    points.push_back(static_cast<float>(point));
    if (weight != nullptr) weights.push_back(*weight);
  }
};

void check_values(const char* name, const float* values, std::int64_t count, float most) {
  for (std::int64_t i = 0; i < count; ++i) {
    TANDEM_CHECK(std::abs(values[i]) < most, invalid_argument, "samples.", name, "[", i, "] is ", values[i],
                 "; allowed: magnitudes below ", most);
  }
}

void check_weights(const char* name, const float* weights, std::int64_t count) {
  for (std::int64_t i = 0; weights != nullptr && i < count; ++i) {
    TANDEM_CHECK(weights[i] >= 0.f && std::isfinite(weights[i]), invalid_argument, "samples.", name, "[", i, "] is ",
                 weights[i], "; allowed: finite numbers from 0 on");
  }
}

/// The range of every channel over the tokens.
std::vector<NuqRange> channel_ranges(const NuqShape& shape, const NuqSamples& samples) {
  const std::int64_t channels = std::int64_t{shape.num_kv_heads} * shape.head_dim_k;
  const auto apart = static_cast<std::ptrdiff_t>(static_cast<double>(samples.tokens) * shape.outliers / 2);
  std::vector<NuqRange> ranges(static_cast<std::size_t>(channels));
  std::vector<float> column(static_cast<std::size_t>(samples.tokens));
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::size_t t = 0; t < column.size(); ++t) column[t] = samples.k[static_cast<std::int64_t>(t) * channels + c];
    std::nth_element(column.begin(), column.begin() + apart, column.end());
    const float low = column[static_cast<std::size_t>(apart)];
    std::nth_element(column.begin(), column.end() - 1 - apart, column.end());
    ranges[static_cast<std::size_t>(c)] = nuq_range(low, *(column.end() - 1 - apart));
  }
  return ranges;
}

Normalised normalised_keys(const std::vector<NuqRange>& ranges, const NuqSamples& samples) {
  Normalised result;
  const auto channels = static_cast<std::int64_t>(ranges.size());
  for (std::int64_t i = 0; i < samples.tokens * channels; ++i) {
    result.add(samples.k[i], ranges[static_cast<std::size_t>(i % channels)],
               samples.k_weights == nullptr ? nullptr : samples.k_weights + i);
  }
  return result;
}

Normalised normalised_values(const NuqShape& shape, const NuqSamples& samples) {
  Normalised result;
  for (std::int64_t row = 0; row < samples.tokens * shape.num_kv_heads; ++row) {
    const std::int64_t first = row * shape.head_dim_v;
    const NuqRange range = nuq_value_range(samples.v + first, shape.head_dim_v, shape.value_outliers());
    for (std::int64_t i = first; i < first + shape.head_dim_v; ++i)
      result.add(samples.v[i], range, samples.v_weights == nullptr ? nullptr : samples.v_weights + i);
  }
  return result;
}

/// Squares of the elements and of what their codes are off by.
struct Squares {
  double all = 0, error = 0;

  void add(float x, NuqRange range, const std::vector<float>& levels) {
    const double offset = range.offset, scale = range.scale, centred = static_cast<double>(x) - offset;
    all += static_cast<double>(x) * static_cast<double>(x);
    if (std::abs(centred) > scale) return;
    double least = scale + std::abs(centred);
    for (const float level : levels) least = std::min(least, std::abs(centred - scale * static_cast<double>(level)));
    error += least * least;
  }
  [[nodiscard]] double share() const { return all > 0 ? std::sqrt(error / all) : 0; }
};

}  // namespace

NuqError nuq_error(const NuqShape& shape, const NuqLayer& layer, const NuqSamples& samples, std::int32_t bits) {
  Squares k, v;
  const auto channels = static_cast<std::int64_t>(layer.channels.size());
  for (std::int64_t i = 0; i < samples.tokens * channels; ++i)
    k.add(samples.k[i], layer.channels[static_cast<std::size_t>(i % channels)], layer.of_k(bits));
  for (std::int64_t row = 0; row < samples.tokens * shape.num_kv_heads; ++row) {
    const float* value = samples.v + row * shape.head_dim_v;
    const NuqRange range = nuq_value_range(value, shape.head_dim_v, shape.value_outliers());
    for (std::int32_t d = 0; d < shape.head_dim_v; ++d) v.add(value[d], range, layer.of_v(bits));
  }
  return {k.share(), v.share()};
}

NuqLayer fit_nuq_layer(const NuqShape& shape, const NuqSamples& samples, std::span<const std::int32_t> bits) {
  TANDEM_CHECK(samples.tokens >= 1, invalid_argument, "samples.tokens is ", samples.tokens, "; allowed: 1 and more");
  const std::int64_t keys = samples.tokens * shape.num_kv_heads * shape.head_dim_k;
  const std::int64_t values = samples.tokens * shape.num_kv_heads * shape.head_dim_v;
  check_values("k", samples.k, keys, 2 * kMaxMagnitude);
  check_values("v", samples.v, values, kMaxMagnitude);
  check_weights("k_weights", samples.k_weights, keys);
  check_weights("v_weights", samples.v_weights, values);

  NuqLayer layer;
  layer.channels = channel_ranges(shape, samples);
  const auto points_of = [](Normalised&& n) { return WeightedPoints(std::move(n.points), n.weights); };
  const WeightedPoints of_k = points_of(normalised_keys(layer.channels, samples));
  const WeightedPoints of_v = points_of(normalised_values(shape, samples));
  for (const std::int32_t b : bits) {
    TANDEM_CHECK(b >= kLeastNuqBits && b <= kMostNuqBits, invalid_argument, "bits is ", b, "; allowed: ", kLeastNuqBits,
                 " to ", kMostNuqBits);
    layer.levels_k[NuqLayer::index(b)] = of_k.k_means(1 << b);
    layer.levels_v[NuqLayer::index(b)] = of_v.k_means(1 << b);
  }
  return layer;
}

}  // namespace tandem::cpu
