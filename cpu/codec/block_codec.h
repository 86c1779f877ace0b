#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/codec/block_format.h"
#include "cpu/codec/codec_params.h"

namespace tandem::cpu {

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
