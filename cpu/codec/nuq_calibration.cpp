#include "cpu/codec/nuq_calibration.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"

namespace tandem::cpu {
namespace {

const NuqShape& checked(const NuqShape& shape) {
  const auto check_count = [](const char* name, std::int32_t value, std::int32_t most) {
    TANDEM_CHECK(value >= 1 && value <= most, invalid_argument, "nuq.", name, " is ", value, "; allowed: 1 to ", most);
  };
  check_count("num_layers", shape.num_layers, kMaxLayers);
  check_count("num_kv_heads", shape.num_kv_heads, kMaxLayers);
  check_count("head_dim_k", shape.head_dim_k, kMaxHeadDim);
  check_count("head_dim_v", shape.head_dim_v, kMaxHeadDim);
  TANDEM_CHECK(shape.outliers >= 0 && shape.outliers <= kMostNuqOutliers, invalid_argument, "nuq.outliers is ",
               shape.outliers, "; allowed: 0 to ", kMostNuqOutliers);
  AttentionShape attention;
  attention.head_dim_k = shape.head_dim_k;
  validate(shape.rope, attention);
  return shape;
}

void check_channels(const std::string& layer, const NuqShape& shape, const std::vector<NuqRange>& channels) {
  const auto wanted = static_cast<std::size_t>(shape.num_kv_heads) * static_cast<std::size_t>(shape.head_dim_k);
  TANDEM_CHECK(channels.size() == wanted, invalid_argument, layer, ".channels has ", channels.size(),
               " ranges; allowed: num_kv_heads * head_dim_k (", wanted, ")");
  constexpr float kMost = 2 * kMaxMagnitude;  // an element turned back by its RoPE is up to sqrt(2) times as large
  for (std::size_t c = 0; c < channels.size(); ++c) {
    const auto& [offset, scale] = channels[c];
    TANDEM_CHECK(std::abs(offset) <= kMost, invalid_argument, layer, ".channels[", c, "].offset is ", offset,
                 "; allowed: magnitudes up to ", kMost);
    TANDEM_CHECK(scale >= 0.f && scale <= kMost, invalid_argument, layer, ".channels[", c, "].scale is ", scale,
                 "; allowed: 0 to ", kMost);
  }
}

void check_levels(const std::string& name, const std::vector<float>& levels, std::size_t count) {
  TANDEM_CHECK(levels.size() == count, invalid_argument, name, " has ", levels.size(), " levels; allowed: ", count,
               ", as in the other layers and for K as for V");
  for (std::size_t i = 0; i < levels.size(); ++i) {
    TANDEM_CHECK(levels[i] >= (i == 0 ? -1.f : levels[i - 1]) && levels[i] <= 1.f, invalid_argument, name, "[", i,
                 "] is ", levels[i], "; allowed: ascending from -1 to 1");
  }
}

/// Numbers of bits that the first layer has K levels for.
std::vector<std::int32_t> bits_of(const std::vector<NuqLayer>& layers) {
  std::vector<std::int32_t> bits;
  for (int b = kLeastNuqBits; b <= kMostNuqBits; ++b) {
    if (!layers.front().of_k(b).empty()) bits.push_back(b);
  }
  return bits;
}

std::int32_t rounded_up(double x) noexcept { return static_cast<std::int32_t>(std::ceil(x)); }

}  // namespace

std::int32_t NuqShape::key_outliers() const noexcept {
  constexpr std::int32_t kSpare = 2;  // outliers come in clumps
  return outliers > 0 ? std::min(head_dim_k, rounded_up(outliers * head_dim_k) + kSpare) : 0;
}

std::int32_t NuqShape::value_outliers() const noexcept {
  if (outliers <= 0) return 0;
  const auto wanted = std::max(1, static_cast<std::int32_t>(std::lround(outliers * head_dim_v / 2)));
  return std::min(wanted, (head_dim_v - 1) / 2);
}

NuqRange nuq_range(float low, float high) noexcept {
  const double l = low, h = high;
  return {static_cast<float>((h + l) / 2), static_cast<float>((h - l) / 2)};
}

NuqRange nuq_value_range(const float* v, std::int32_t dim, std::int32_t outliers) noexcept {
  float sorted[kMaxHeadDim];
  std::copy_n(v, dim, sorted);
  std::nth_element(sorted, sorted + outliers, sorted + dim);
  const float low = sorted[outliers];
  std::nth_element(sorted, sorted + (dim - 1 - outliers), sorted + dim);
  return nuq_range(low, sorted[dim - 1 - outliers]);
}

NuqCalibration::NuqCalibration(const NuqShape& shape, std::vector<NuqLayer> layers)
    : shape_(checked(shape)), layers_(std::move(layers)), rope_(shape.rope, shape.head_dim_k) {
  TANDEM_CHECK(layers_.size() == static_cast<std::size_t>(shape.num_layers), invalid_argument, "nuq.layers has ",
               layers_.size(), " layers; allowed: num_layers (", shape.num_layers, ")");
  bits_ = bits_of(layers_);
  TANDEM_CHECK(!bits_.empty(), invalid_argument, "nuq.layers[0].levels_k has no levels; allowed: those of ",
               kLeastNuqBits, " to ", kMostNuqBits, " bits");
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const std::string name = concat("nuq.layers[", i, "]");
    check_channels(name, shape, layers_[i].channels);
    for (int b = kLeastNuqBits; b <= kMostNuqBits; ++b) {
      const bool has = std::find(bits_.begin(), bits_.end(), b) != bits_.end();
      const std::size_t count = has ? std::size_t{1} << b : 0;
      check_levels(concat(name, ".levels_k[", b, "]"), layers_[i].of_k(b), count);
      check_levels(concat(name, ".levels_v[", b, "]"), layers_[i].of_v(b), count);
    }
  }
}

void check_fits(const NuqCalibration& calibration, const AttentionShape& shape, const RopeParams& rope,
                std::int32_t bits) {
  const NuqShape& of = calibration.shape();
  const auto check = [](const char* name, auto value, auto allowed) {
    TANDEM_CHECK(value == allowed, invalid_argument, "calibration.", name, " is ", value, "; allowed: ", allowed,
                 ", that of the attention it is for");
  };
  check("num_layers", of.num_layers, shape.num_layers);
  check("num_kv_heads", of.num_kv_heads, shape.num_kv_heads);
  check("head_dim_k", of.head_dim_k, shape.head_dim_k);
  check("head_dim_v", of.head_dim_v, shape.head_dim_v);
  TANDEM_CHECK(rope.known() || !of.rope.known(), invalid_argument,
               "rope_theta is 0; codec nuq turns keys back before it codes them and needs that of its calibration (",
               of.rope.theta, ")");
  check("rope_theta", of.rope.theta, rope.theta);
  const auto dims_of = [&shape](const RopeParams& r) { return r.dims == 0 ? shape.head_dim_k : r.dims; };
  check("rope_dims", dims_of(of.rope), dims_of(rope));
  check("rope_interleaved", of.rope.interleaved, rope.interleaved);
  std::string listed;
  for (const std::int32_t b : calibration.bits()) listed += (listed.empty() ? "" : ", ") + std::to_string(b);
  const auto& has = calibration.bits();
  TANDEM_CHECK(std::find(has.begin(), has.end(), bits) != has.end(), invalid_argument, "bits is ", bits,
               "; allowed: what the calibration has levels for (", listed, ")");
}

}  // namespace tandem::cpu
