#pragma once

#include <cstddef>

#include "cpu/codec/block_format.h"
#include "cpu/codec/codec_params.h"

namespace tandem::cpu {

/// Codec kivi: uniform codes of 2 or 4 bits, K per channel in groups of tokens, V per token in groups of elements.
/// A block of max(64, group) rows is
///
///   [ K: (slab of 64 tokens, channel of padded_k) of 64 codes | (group of tokens, {scale, minimum}, padded_k) 16 bits
///     each | V, see value_groups.h ],
///
/// where the codes of a channel lie as packed_codes.h says, k_stride bytes of them, and scale and minimum, and by how
/// much an element is off, are those of uniform_group.h. Bytes of a token at head_dim 128: group 32 of 4 bits 160, of 2
/// bits 96; group 128 of 2 bits 72. Attention over independent normal keys and values of head_dim 128 is off by about
/// 0.106 (4 bits, group 32) and 0.59 (2 bits, group 32) of its length. Source: Liu et al., KIVI, arXiv:2402.02750,
/// section 3.
BlockFormat kivi_format(const CodecParams& params, const AttentionShape& shape) noexcept;

/// See BlockCodec.
void encode_kivi(const BlockFormat& format, const float* k, const float* v, std::byte* block) noexcept;
void decode_kivi(const BlockFormat& format, const std::byte* block, int first, int count, float* k, float* v) noexcept;

}  // namespace tandem::cpu
