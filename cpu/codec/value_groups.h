#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/codec/block_format.h"

namespace tandem::cpu {

/// V of a coded block in groups of format.group elements of a token, format.bits each: codes (row, v_stride), see
/// packed_codes.h, and for each group of elements first the scales and then the minima of all rows, (group of elements,
/// {scale, minimum}, row), see uniform_group.h. The V of KIVI and QJL.

/// Places V in a block from byte `offset` on, a multiple of 16, and returns where it ends. format.group divides dim_v.
std::int64_t place_value_groups(BlockFormat& format, std::int64_t offset) noexcept;

/// v (block_rows, padded_v).
void encode_value_groups(const BlockFormat& format, const float* v, std::byte* block) noexcept;
/// v (count, padded_v): rows [first, first + count).
void decode_value_groups(const BlockFormat& format, const std::byte* block, int first, int count, float* v) noexcept;

}  // namespace tandem::cpu
