#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cpu/rope.h"
#include "cpu/rope_table.h"
#include "runtime/base/shape.h"

namespace tandem::cpu {

inline constexpr int kLeastNuqBits = 2;
inline constexpr int kMostNuqBits = 4;
/// Share of elements kept apart at most: beyond it the codes no longer say most of a row.
inline constexpr double kMostNuqOutliers = 0.1;

/// What a calibration was made for.
struct NuqShape {
  std::int32_t num_layers = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim_k = 0;
  std::int32_t head_dim_v = 0;
  RopeParams rope;         ///< theta 0: keys are not rotated
  double outliers = 0.01;  ///< share of elements kept apart; 0: none (dense)

  /// K outliers that a token has room for: what it has on average, rounded up, and two; 0 when there are none.
  [[nodiscard]] std::int32_t key_outliers() const noexcept;
  /// V outliers of a token at either end of its range: at least one, where three elements are left and there are any.
  [[nodiscard]] std::int32_t value_outliers() const noexcept;

  friend bool operator==(const NuqShape&, const NuqShape&) = default;
};

/// An element x of [offset - scale, offset + scale] is coded as a level near (x - offset) / scale; the others are
/// outliers.
struct NuqRange {
  float offset = 0.f;
  float scale = 0.f;  ///< >= 0; 0: all elements are the offset
};

/// The range from `low` to `high`, low <= high.
NuqRange nuq_range(float low, float high) noexcept;
/// The range of a token's V (dim) without its `outliers` largest and smallest elements. 2 * outliers < dim.
NuqRange nuq_value_range(const float* v, std::int32_t dim, std::int32_t outliers) noexcept;

/// Of one layer. The levels are those of all its heads, as in the source: channels, and V tokens, are normalised by
/// their own ranges, which takes most of what tells heads apart, and the heads' samples together place them better.
struct NuqLayer {
  std::vector<NuqRange> channels;                                                       ///< (num_kv_heads, head_dim_k)
  std::array<std::vector<float>, kMostNuqBits - kLeastNuqBits + 1> levels_k, levels_v;  ///< by bits - kLeastNuqBits

  [[nodiscard]] const std::vector<float>& of_k(int bits) const { return levels_k.at(index(bits)); }
  [[nodiscard]] const std::vector<float>& of_v(int bits) const { return levels_v.at(index(bits)); }
  /// Of a number of bits that is allowed.
  [[nodiscard]] static constexpr std::size_t index(int bits) noexcept {
    return static_cast<std::size_t>(bits - kLeastNuqBits);
  }
};

/// What KVQuant learns offline: the range of every channel of pre-RoPE K, and the levels that the codes of K and of V
/// stand for, 2^bits ascending numbers in [-1, 1]. Immutable, thread-safe. Source: arXiv:2401.18079, sections 3.1 to
/// 3.4.
class NuqCalibration {
 public:
  /// Throws Error(invalid_argument) naming the field, its value and what is allowed: an impossible shape or rope;
  /// layers, channels or levels that are too few or too many; ranges and levels that are not finite or out of order;
  /// numbers of bits that not all layers have, or none.
  NuqCalibration(const NuqShape& shape, std::vector<NuqLayer> layers);

  [[nodiscard]] const NuqShape& shape() const noexcept { return shape_; }
  [[nodiscard]] const NuqLayer& layer(std::int32_t layer) const { return layers_.at(static_cast<std::size_t>(layer)); }
  /// The numbers of bits that there are levels for, ascending.
  [[nodiscard]] const std::vector<std::int32_t>& bits() const noexcept { return bits_; }
  [[nodiscard]] const RopeTable& rope() const noexcept { return rope_; }

 private:
  NuqShape shape_;
  std::vector<NuqLayer> layers_;
  std::vector<std::int32_t> bits_;
  RopeTable rope_;
};

/// Throws Error(invalid_argument) naming the field where `calibration` is not for attention of this shape and rope, or
/// has no levels of `bits` bits.
void check_fits(const NuqCalibration& calibration, const AttentionShape& shape, const RopeParams& rope,
                std::int32_t bits);

}  // namespace tandem::cpu
