#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/codec/codec_params.h"
#include "cpu/row_layout.h"

namespace tandem::cpu {

/// Where the parts of a coded block lie, and the constants that its kernels read: plain numbers and pointers, so that
/// they cross into code compiled per ISA. A codec's file says what its parts hold.
struct BlockFormat {
  CodecKind kind = CodecKind::none;
  std::int32_t bits = 0;
  std::int32_t group = 0;
  std::int32_t dim_k = 0, dim_v = 0, padded_k = 0, padded_v = 0;
  std::int32_t block_rows = 0;   ///< tokens of a block: 64 or 128
  std::int64_t block_bytes = 0;  ///< a multiple of 64
  std::int64_t code_bytes = 0;   ///< of block_bytes, what is not padding
  std::int64_t k_codes = 0, k_side = 0, v_codes = 0,
               v_side = 0;                  ///< offsets in a block: codes, and what goes with them
  std::int64_t k_stride = 0, v_stride = 0;  ///< bytes of codes of one token
  std::int32_t prepared_dim = 0;  ///< floats that BlockCodecKernels::prepare makes of one query, a multiple of 16
  std::int32_t sketch_bits = 0, outlier_bits = 0, outliers = 0;  ///< qjl
  const float* projection = nullptr;                             ///< qjl: (padded_k, sketch_bits), padding zero
  float k_factor = 1.f;                                          ///< qjl: what a sum of signs is multiplied with
  const float* levels_k = nullptr;  ///< nuq: what the codes of K stand for, before the channel's scale and offset
  const float* levels_v = nullptr;
  const float* channel_scale = nullptr;   ///< nuq: (padded_k)
  const float* channel_offset = nullptr;  ///< nuq: (padded_k)
  const class RopeTable* rope = nullptr;  ///< nuq
};

/// The codec of one (layer, kv_head): encodes blocks of tokens and says what they stand for. Immutable and cheap to
/// copy: copies share their tables. Thread-safe.
class BlockCodec {
 public:
  BlockCodec() = default;  ///< kind none, which encodes nothing
  /// Throws as validate(params, shape, rope) does.
  BlockCodec(const CodecParams& params, const AttentionShape& shape, const RopeParams& rope, std::int32_t layer,
             std::int32_t head);

  [[nodiscard]] const BlockFormat& format() const noexcept { return format_; }
  [[nodiscard]] explicit operator bool() const noexcept { return format_.kind != CodecKind::none; }

  /// Encodes format().block_rows tokens at positions first_position and on: post-RoPE k (block_rows, padded_k) and v
  /// (block_rows, padded_v), fp32, padding zero. Writes all block_bytes. Every finite input of magnitude below
  /// kMaxMagnitude gives finite decoded values.
  void encode(const float* k, const float* v, std::int64_t first_position, std::byte* block) const;
  /// What rows [first, first + count) of a block stand for: <q, k> of a decoded (post-RoPE) key is the score that
  /// kernels compute, up to rounding. k (count, padded_k), v (count, padded_v).
  void decode(const std::byte* block, std::int64_t first_position, int first, int count, float* k, float* v) const;

 private:
  BlockFormat format_;
  std::shared_ptr<const void> tables_;  ///< what format_ points to
};

}  // namespace tandem::cpu
