#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/codec/block_format.h"
#include "cpu/codec/codec_params.h"
#include "cpu/codec/qjl_layout.h"

namespace tandem::cpu {

/// A channel's number takes a byte.
inline constexpr int kQjlMaxHeadDim = 256;

/// QJL, the keys' part: signs of a random projection, and norms.
///
/// Of a key k, the outlier channels O of its group of tokens and the others are coded apart: k = k_in + k_out. With S
/// of qjl_projection(), m sign bits [<S_j, k_in> > 0] and m_o sign bits [<S_j, k_out> > 0] are stored, a 0 standing for
/// -1, and both norms. The estimate of <q, k>, with f = sqrt(pi / 2) / qjl_bias(),
///
///   f / m |k_in| sum_{j < m} s_in[j] <S_j, q_in> + f / m_o |k_out| sum_{j < m_o} s_out[j] <S_j, q_out>,
///
/// is linear in q, whose part in O is q_out: it is <q, k^> of a decoded key. It is unbiased, with variance
/// (pi / 2 |q|^2 |k|^2 - <q, k>^2) / m for each part if S is Gaussian, and less if it has orthogonal blocks. Its size
/// is at most about 1.25 (|q_in| |k_in| + |q_out| |k_out|) when blocks are whole. A group's O is the `outliers`
/// channels of largest L2 norm over its tokens, of equal ones those of lower number; 0 outliers: all is k_in, and no
/// byte is k_out's.
///
/// Codes of a token: m bits, then m_o bits; bit j is bit j % 8 of byte j / 8. At k_side: 64 norms |k_in|, 64 norms
/// |k_out| (see kQjlNormBytes), the channels of O of both groups in ascending order, a byte each. |k_in| is stored
/// itself: |k|^2 - |k_out|^2 may round to below zero.
///
/// Source: Zandieh et al., arXiv:2406.03482, section 3 (estimator) and 4 (outliers, orthogonal blocks).

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate_qjl(const CodecParams& params, const AttentionShape& shape);

/// Fills in what `format` says of K: it lies at the beginning of a block. Needs dim_k and padded_k. Returns the bytes
/// that K takes, without padding.
std::int64_t lay_out_qjl_keys(const CodecParams& params, BlockFormat& format);

/// Sets format.projection, to memory that the result keeps.
std::shared_ptr<const void> set_qjl_projection(const CodecParams& params, BlockFormat& format);

/// K of kQjlBlockRows tokens, k (kQjlBlockRows, padded_k), into the K part of a block. Thread-safe.
void encode_qjl_keys(const BlockFormat& format, const float* k, std::byte* block);

/// The decoded keys of rows [first, first + count) of a block, k (count, padded_k), padding zero. Thread-safe.
void decode_qjl_keys(const BlockFormat& format, const std::byte* block, int first, int count, float* k);

}  // namespace tandem::cpu
