#include "cpu/row_layout.h"

#include <cstring>

namespace tandem::cpu {

RowLayout RowLayout::of(const AttentionShape& shape, DType dtype) noexcept {
  RowLayout layout;
  layout.dtype = dtype;
  layout.dim_k = shape.head_dim_k;
  layout.dim_v = shape.head_dim_v;
  layout.padded_k = padded(shape.head_dim_k);
  layout.padded_v = padded(shape.head_dim_v);
  const auto element = static_cast<std::int64_t>(bytes_of(dtype));
  layout.v_offset = layout.padded_k * element;
  layout.row_bytes = (layout.v_offset + layout.padded_v * element + 63) / 64 * 64;
  layout.kv_bytes = (layout.dim_k + layout.dim_v) * element;
  return layout;
}

void write_row(const RowLayout& layout, DType dtype, const std::byte* k, const std::byte* v, std::byte* row) noexcept {
  std::memset(row, 0, static_cast<std::size_t>(layout.row_bytes));
  convert(dtype, k, layout.dtype, row, layout.dim_k);
  convert(dtype, v, layout.dtype, row + layout.v_offset, layout.dim_v);
}

void convert_row(const RowLayout& from, const std::byte* source, const RowLayout& to, std::byte* target) noexcept {
  write_row(to, from.dtype, source, source + from.v_offset, target);
}

}  // namespace tandem::cpu
