#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/codec/block_format.h"
#include "cpu/codec/codec_params.h"
#include "cpu/codec/qjl_layout.h"

namespace tandem::cpu {

inline constexpr int kQjlMaxHeadDim = 256;  ///< of K: a channel's number takes a byte
inline constexpr int kQjlValueBits = 2, kQjlValueGroup = 32;

/// Codec qjl: of K the signs of a random projection, and norms; V in 2-bit groups of 32 elements (value_groups.h). A
/// block of 64 rows is
///
///   [ K: (16 rows, word, row) codes | (row) norms |k_in| | (row) norms |k_out| | outlier channels | to 64 bytes | V ].
///
/// Of a key k, the outlier channels O of its group of 32 tokens and the others are coded apart: k = k_in + k_out. With
/// S of qjl_projection(), m sign bits [<S_j, k_in> > 0] and m_o sign bits [<S_j, k_out> > 0] are stored, a 0 standing
/// for -1, and both norms. The estimate of <q, k>, with f = sqrt(pi / 2) / qjl_bias(),
///
///   f / m |k_in| sum_{j < m} s_in[j] <S_j, q_in> + f / m_o |k_out| sum_{j < m_o} s_out[j] <S_j, q_out>,
///
/// is linear in q, whose part in O is q_out: it is <q, k^> of a decoded key. It is unbiased up to the rounding of the
/// norms, with variance (pi / 2 |q|^2 |k|^2 - <q, k>^2) / m for each part if S is Gaussian, and less if it has
/// orthogonal blocks: a third of that from m = head_dim_k = 128 on. A group's O is the `outliers` channels of largest
/// L2 norm over its tokens, of equal ones those of lower number; of 0 outliers, nothing is stored.
///
/// Codes of a token: m bits, then m_o bits; bit j is bit j % 32 of little-endian word j / 32. At k_side: norms (see
/// kQjlNormBytes), and the channels of both groups in ascending order, a byte each. |k_in| is stored itself: |k|^2 -
/// |k_out|^2 may round to below zero. Bytes of a token at head_dim 128, m = m_o = 256: 82 without outliers, 117 with 8.
/// Attention over independent normal keys and values of head_dim 128 is then off by about 0.72 and 0.66 of its length.
/// Source: Zandieh et al., arXiv:2406.03482, section 3 (estimator) and 4 (outliers, orthogonal blocks).
/// Its projection is that of set_qjl_projection().
BlockFormat qjl_format(const CodecParams& params, const AttentionShape& shape) noexcept;

/// Sets format.projection, to memory that the result keeps. Thread-safe.
std::shared_ptr<const void> set_qjl_projection(const CodecParams& params, BlockFormat& format);

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate_qjl(const CodecParams& params, const AttentionShape& shape);

/// See BlockCodec.
void encode_qjl(const BlockFormat& format, const float* k, const float* v, std::byte* block);
void decode_qjl(const BlockFormat& format, const std::byte* block, int first, int count, float* k, float* v);

}  // namespace tandem::cpu
