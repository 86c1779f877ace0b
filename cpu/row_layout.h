#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/base/dtype.h"
#include "runtime/base/shape.h"

namespace tandem::cpu {

/// Rows per page of the host store and the window, and per block of an attention pass.
inline constexpr int kPageRows = 64;
/// Vectors of every instruction set divide a padded dimension, so kernels have no tail loop.
inline constexpr std::int32_t kDimPadding = 16;

constexpr std::int32_t padded(std::int32_t dim) noexcept { return (dim + kDimPadding - 1) / kDimPadding * kDimPadding; }

/// One token of one KV head: K and V side by side, so that a gathered row is one run of cache lines.
///
/// Element types: [ K: padded_k elements | V: padded_v elements | to the next multiple of 64 bytes ]; padding is zero.
///
/// Quantized formats: [ K: padded_k bytes | scale of K: fp32 | scale of V: fp32 | V | to the next multiple of 64 bytes
/// ], where an element is its integer times the scale, which is the row's largest magnitude over the largest integer:
/// 127 for K and the V of int8, 7 for the V of k8v4. Four bits lie in groups of 16 elements in 8 bytes: byte j holds
/// elements j, low, and j + 8, high, both plus 8. Formats of blocks are described at TD_Q8_0. Attention over
/// independent normal keys and values is off by about 0.009 (int8) and 0.12 (k8v4) of its length. Bytes of a row at
/// head_dim 128: bf16 512, int8 320, k8v4 256.
struct RowLayout {
  DType dtype = DType::f32;
  std::int32_t dim_k = 0;
  std::int32_t dim_v = 0;
  std::int32_t padded_k = 0;
  std::int32_t padded_v = 0;
  std::int64_t v_offset = 0;   ///< bytes from the row's start to V
  std::int64_t row_bytes = 0;  ///< distance of consecutive rows
  std::int64_t kv_bytes = 0;   ///< K and V without padding: what a step reads of a row
  bool is_split = false;       ///< K and V lie in memory of their own: rows of somebody else

  /// Of rows that are written here: not for formats of blocks.
  static RowLayout of(const AttentionShape& shape, DType dtype) noexcept;
  /// Of rows that lie in tensors of somebody else, K and V at equal distances `row_bytes`, the V of a row `v_offset`
  /// bytes from its K. Dimensions must be multiples of kDimPadding, and of kBlockElements for formats of blocks, which
  /// are unscaled element types otherwise; no alignment beyond that of bytes is asked for.
  static RowLayout borrowed(const AttentionShape& shape, DType dtype, std::int64_t row_bytes,
                            std::int64_t v_offset) noexcept;
  [[nodiscard]] std::int64_t page_bytes() const noexcept { return row_bytes * kPageRows; }
};

/// By how much of its length attention over rows of a quantized format is off, as stated above; data may do worse. 0
/// for element types.
constexpr double typical_error(DType format) noexcept {
  return format == DType::k8v4 ? 0.12 : format == DType::int8 ? 0.009 : 0.0;
}

/// K (padded_k) or V (padded_v) of a row of any format, as fp32; padding is zero.
void load_key(const RowLayout& layout, const std::byte* row, float* key) noexcept;
void load_value(const RowLayout& layout, const std::byte* row, float* value) noexcept;

/// Writes one row from K and V of the element type `dtype`; all bytes of the row, padding included. Not for formats of
/// blocks.
void write_row(const RowLayout& layout, DType dtype, const std::byte* k, const std::byte* v, std::byte* row) noexcept;

/// Rewrites a row of one layout in another of the same dimensions, neither of more than kMaxHeadDim.
void convert_row(const RowLayout& from, const std::byte* source, const RowLayout& to, std::byte* target) noexcept;

}  // namespace tandem::cpu
