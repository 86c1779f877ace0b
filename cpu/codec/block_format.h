#pragma once

#include <cstdint>

#include "cpu/codec/codec_kind.h"
#include "runtime/base/shape.h"

namespace tandem::cpu {

/// Where the parts of a coded block lie, and the constants that its kernels read: plain numbers and pointers, so that
/// they cross into code compiled per ISA. A codec's file says what its parts hold.
struct BlockFormat {
  CodecKind kind = CodecKind::none;
  std::int32_t bits = 0;   ///< of a code; qjl: of V
  std::int32_t group = 0;  ///< see CodecParams; qjl: elements of a V group
  std::int32_t dim_k = 0, dim_v = 0, padded_k = 0, padded_v = 0;
  std::int32_t block_rows = 0;   ///< tokens of a block: 64 or 128
  std::int64_t block_bytes = 0;  ///< a multiple of 64
  std::int64_t code_bytes = 0;   ///< of block_bytes, what is not padding
  std::int64_t k_codes = 0, k_side = 0, v_codes = 0,
               v_side = 0;                  ///< offsets in a block: codes, and what goes with them
  std::int64_t k_stride = 0, v_stride = 0;  ///< bytes of codes of a token; kivi, K: of a channel
  std::int32_t prepared_dim = 0;  ///< floats that BlockCodecKernels::prepare makes of one query, a multiple of 16
  std::int32_t sketch_bits = 0, outlier_bits = 0, outliers = 0;  ///< qjl; nuq: of a K token
  std::int32_t outliers_v = 0;                                   ///< nuq: of a V token
  const float* projection = nullptr;                             ///< qjl: (padded_k, sketch_bits), padding zero
  float k_factor = 1.f;                                          ///< qjl: what a sum of signs is multiplied with
  const float* levels_k = nullptr;        ///< nuq: (padded_k, 16): what the codes of each channel stand for
  const float* levels_v = nullptr;        ///< nuq: (16): of V, before the token's scale and offset
  const float* channel_scale = nullptr;   ///< nuq: (padded_k)
  const float* channel_offset = nullptr;  ///< nuq: (padded_k)
  const class RopeTable* rope = nullptr;  ///< nuq
  const std::uint64_t* rope_turns =
      nullptr;                    ///< nuq: (padded_k / 2): RopeTable::turns(), for devices, which have no rope
  std::int32_t rope_pairs = 0;    ///< nuq: pairs that are rotated, the first ones
  bool rope_interleaved = false;  ///< nuq: see RopeParams
};

/// A format that has a kind and the dimensions of a (resolved) shape; kernels take queries as they are.
BlockFormat block_format(CodecKind kind, const AttentionShape& shape) noexcept;

}  // namespace tandem::cpu
