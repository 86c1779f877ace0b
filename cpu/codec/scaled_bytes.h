#pragma once

#include <cstddef>

#include "cpu/codec/block_format.h"
#include "runtime/base/shape.h"

namespace tandem::cpu {

/// Codecs int8 and fp8: a byte per element, a scale per token for K and for V. A block of 64 rows is
///
///   [ K: (row, padded_k) bytes | scales of K: (row) fp32 | V: (row, padded_v) bytes | scales of V: (row) fp32 ].
///
/// An element is its byte, an integer or an e4m3 number (codec/fp8.h), times the scale, which is the token's largest
/// magnitude over 127 or 448. int8 is off by at most half a scale, e4m3 by at most 2^-4 of the element or 2^-10 of a
/// scale, whichever is more; both up to fp32 rounding, and a scale is 0 where fp32 has nothing as small. Attention over
/// independent normal keys and values of head_dim 128 is off by about 0.009 (int8) and 0.036 (fp8) of its length. At
/// head_dim 128 a token takes 264 bytes.
BlockFormat scaled_bytes_format(CodecKind kind, const AttentionShape& shape) noexcept;

/// See BlockCodec.
void encode_scaled_bytes(const BlockFormat& format, const float* k, const float* v, std::byte* block) noexcept;
void decode_scaled_bytes(const BlockFormat& format, const std::byte* block, int first, int count, float* k,
                         float* v) noexcept;

}  // namespace tandem::cpu
