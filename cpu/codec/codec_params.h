#pragma once

#include <cstdint>
#include <memory>

#include "cpu/codec/codec_kind.h"
#include "cpu/rope.h"
#include "runtime/base/shape.h"

namespace tandem::cpu {

class NuqCalibration;

/// Fields that a kind does not name are not read by it.
struct CodecParams {
  CodecKind kind = CodecKind::none;
  std::int32_t bits = 4;           ///< kivi: 2 or 4; nuq: 2, 3 or 4
  std::int32_t group = 32;         ///< kivi: tokens of a K group and elements of a V group: 32, 64 or 128
  std::int32_t sketch_bits = 256;  ///< qjl: m, sign bits of a key; a multiple of 64, 64 to 1024
  std::int32_t outlier_bits = 0;   ///< qjl: of the outlier channels' part, a multiple of 64 up to m; 0: m
  std::int32_t outliers = 8;       ///< qjl: outlier channels per 32 tokens, 0 to 32
  bool orthogonal = true;          ///< qjl: orthogonal blocks instead of independent Gaussian directions
  std::uint64_t seed = 1;          ///< qjl: the projection is a function of (seed, head_dim_k, m, orthogonal)
  std::shared_ptr<const NuqCalibration> calibration;  ///< nuq: needed

  friend bool operator==(const CodecParams&, const CodecParams&) = default;
};

/// Which keys a codec encodes. Engines hand over post-RoPE keys; pre-RoPE ones are had by turning these back.
enum class KeySpace { post_rope, pre_rope };
constexpr KeySpace key_space_of(CodecKind kind) noexcept {
  return kind == CodecKind::nuq ? KeySpace::pre_rope : KeySpace::post_rope;
}

/// Throws Error(invalid_argument) naming the field, the value and what is allowed: also where the kind needs a rope
/// that is not known, or a calibration of this shape.
void validate(const CodecParams& params, const AttentionShape& shape, const RopeParams& rope);

}  // namespace tandem::cpu
