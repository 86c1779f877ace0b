#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/aligned_vector.h"
#include "cpu/codec/block_codec.h"
#include "cpu/codec/nuq_calibration.h"
#include "cpu/codec/nuq_layout.h"

namespace tandem::cpu {

// Calibrated non-uniform codes of pre-RoPE K and of V, with outliers apart: KVQuant, arXiv:2401.18079.
//
// A block of 64 tokens. K: an element is coded as the nearest of its channel's levels, V as the nearest level times the
// token's scale plus its offset. An outlier, an element outside its channel's range or one of V's extremes, is coded
// likewise, which is an end of the range or near it, and its residual is kept beside. A K token with more of them than
// there is room for loses the smallest residuals; unused room holds a residual of 0. A residual is an fp32 without its
// last 10 bits, in which lies the element's place: 13 bits of mantissa, where fp16 has 10, and the range of fp32.
//
// Codes lie in units of 128, 8 fields of 16 lanes, 16 * bits bytes. A unit of K is two channels, those of a pair that
// RoPE turns together, times 64 tokens: field 4 c + t / 16, lane t % 16. A unit of V is 8 tokens times 16 elements:
// field t % 8, lane e % 16. Byte l of a line of 16 bytes holds what lane l has of some fields, the first lowest: 2 of 4
// bits, 4 of 2 bits; of 3 bits, the two lower ones as those of 2 bits and the upper one of all 8 fields in line 2. So
// no bit is wasted, and a vector of lanes is decoded by a shift and a lookup.
//
//   k_codes: (padded_k / 2) units          k_side: residuals (64, outliers) u32, whose place is 2 i + c of pair i
//   v_codes: (64 / 8, padded_v / 16) units  v_side: scales (64), offsets (64) fp32, residuals (64, outliers_v) u32
//
// A token of head_dim 128 takes 160, 128, 96 bytes with 1 % outliers and 4, 3, 2 bits, without them 136, 104, 72, and
// 512 in bf16. Attention over independent normal keys and values is off by about 0.11, 0.21, 0.38 of its length.
// Turning keys is half as much arithmetic again as their products with four queries: a token takes more time than one
// of bf16 rows, though a third of the bytes.

/// What a BlockFormat of nuq points to.
struct NuqTables {
  AlignedVector<float> keys;  ///< (padded_k, kNuqLevels): what the codes of each channel, in order of pairs, stand for
  AlignedVector<float> values;         ///< (kNuqLevels): of V, before the token's scale and offset
  AlignedVector<float> scale, offset;  ///< (padded_k): of the channels, in order of pairs
  std::shared_ptr<const NuqCalibration> calibration;
};

/// Of one layer and KV head; `bits` is one of calibration->bits().
std::shared_ptr<const NuqTables> nuq_tables(std::shared_ptr<const NuqCalibration> calibration, std::int32_t layer,
                                            std::int32_t head, std::int32_t bits);
/// `key_outliers` is the room that a K token has for outliers, at most padded_k.
BlockFormat nuq_format(const NuqTables& tables, std::int32_t bits, std::int32_t key_outliers);

/// As BlockCodec's.
void encode_nuq(const BlockFormat& format, const float* k, const float* v, std::int64_t first_position,
                std::byte* block) noexcept;
void decode_nuq(const BlockFormat& format, const std::byte* block, std::int64_t first_position, int first, int count,
                float* k, float* v) noexcept;

}  // namespace tandem::cpu
