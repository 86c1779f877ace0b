#include "cpu/codec/value_groups.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "cpu/codec/packed_codes.h"
#include "cpu/codec/uniform_group.h"

namespace tandem::cpu {
namespace {

/// Scale and minimum of one row's group of elements.
struct Side {
  Side(const BlockFormat& format, int group, int row) noexcept
      : scale(format.v_side + std::int64_t{2} * (2 * group * format.block_rows + row)),
        minimum(scale + std::int64_t{2} * format.block_rows) {}
  std::int64_t scale, minimum;  ///< bytes from the block's start
};

void encode_row(const BlockFormat& format, const float* v, int row, std::byte* block) noexcept {
  std::byte* codes = block + format.v_codes + row * format.v_stride;
  for (int first = 0; first < format.dim_v; first += format.group) {
    const auto [least, largest] = std::minmax_element(v + first, v + first + format.group);
    const UniformGroup group = uniform_group(*least, *largest, format.bits);
    const Side side(format, first / format.group, row);
    std::memcpy(block + side.scale, &group.scale, sizeof(group.scale));
    std::memcpy(block + side.minimum, &group.minimum, sizeof(group.minimum));
    for (int i = first; i < first + format.group; ++i)
      store_packed(codes, format.bits, i, uniform_code(group, format.bits, v[i]));
  }
}

}  // namespace

std::int64_t place_value_groups(BlockFormat& format, std::int64_t offset) noexcept {
  assert(offset % 16 == 0 && format.dim_v % format.group == 0);
  format.v_stride = packed_bytes(format.padded_v, format.bits);
  format.v_codes = offset;
  format.v_side = offset + format.block_rows * format.v_stride;
  return format.v_side + std::int64_t{4} * format.block_rows * (format.dim_v / format.group);
}

void encode_value_groups(const BlockFormat& format, const float* v, std::byte* block) noexcept {
  std::memset(block + format.v_codes, 0, static_cast<std::size_t>(format.block_rows * format.v_stride));
  for (int r = 0; r < format.block_rows; ++r)
    encode_row(format, v + static_cast<std::ptrdiff_t>(r) * format.padded_v, r, block);
}

void decode_value_groups(const BlockFormat& format, const std::byte* block, int first, int count, float* v) noexcept {
  for (int r = first; r < first + count; ++r, v += format.padded_v) {
    const std::byte* codes = block + format.v_codes + r * format.v_stride;
    for (int i = 0; i < format.dim_v; ++i) {
      UniformGroup group;
      const Side side(format, i / format.group, r);
      std::memcpy(&group.scale, block + side.scale, sizeof(group.scale));
      std::memcpy(&group.minimum, block + side.minimum, sizeof(group.minimum));
      v[i] = uniform_value(group, load_packed(codes, format.bits, i));
    }
    std::fill(v + format.dim_v, v + format.padded_v, 0.f);
  }
}

}  // namespace tandem::cpu
