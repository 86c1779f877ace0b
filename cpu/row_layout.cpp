#include "cpu/row_layout.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

namespace tandem::cpu {
namespace {

constexpr int kNibbleGroup = 16;  // elements in 8 bytes
constexpr int kNibbleBias = 8;
constexpr std::int64_t kScaleBytes = 2 * sizeof(float);

float load_float(const std::byte* source) noexcept {
  float value;
  std::memcpy(&value, source, sizeof(value));
  return value;
}

/// Rounds `values` to integers of magnitude `most` and returns what they are multiples of. In double: no magnitude that
/// fp32 has, however small, makes the quotient overflow.
float quantize(const float* values, int count, int most, std::int8_t* integers) noexcept {
  float largest = 0.f;
  for (int i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  const double inverse = largest > 0.f ? most / static_cast<double>(largest) : 0.0;
  for (int i = 0; i < count; ++i) integers[i] = static_cast<std::int8_t>(std::lrint(values[i] * inverse));
  return static_cast<float>(static_cast<double>(largest) / most);
}

/// The byte and the shift of element i.
int nibble_byte(int i) noexcept { return i / kNibbleGroup * 8 + i % 8; }
int nibble_shift(int i) noexcept { return i % kNibbleGroup / 8 * 4; }

void store_nibbles(const std::int8_t* integers, int padded_count, std::byte* target) noexcept {
  std::memset(target, 0, static_cast<std::size_t>(padded_count / 2));
  for (int i = 0; i < padded_count; ++i)
    target[nibble_byte(i)] |= static_cast<std::byte>((integers[i] + kNibbleBias) << nibble_shift(i));
}

void quantize_row(const RowLayout& layout, const float* k, const float* v, std::byte* row) noexcept {
  std::int8_t integers[kMaxHeadDim] = {};
  const float scales[] = {
      quantize(k, layout.dim_k, 127, reinterpret_cast<std::int8_t*>(row)),
      quantize(v, layout.dim_v, layout.dtype == DType::int8 ? 127 : 7, integers),
  };
  std::memcpy(row + layout.v_offset - kScaleBytes, scales, sizeof(scales));
  if (layout.dtype == DType::int8) {
    std::memcpy(row + layout.v_offset, integers, static_cast<std::size_t>(layout.padded_v));
  } else {
    store_nibbles(integers, layout.padded_v, row + layout.v_offset);
  }
}

void scale_bytes(const std::byte* integers, int count, float scale, float* values) noexcept {
  for (int i = 0; i < count; ++i) values[i] = static_cast<float>(static_cast<std::int8_t>(integers[i])) * scale;
}

/// Elements of q8_0 or q4_0 blocks.
void load_blocks(DType dtype, const std::byte* source, int count, float* values) noexcept {
  for (int begin = 0; begin < count; begin += kBlockElements) {
    const std::byte* block = source + bytes_of(dtype, std::int64_t{begin});
    std::uint16_t bits;
    std::memcpy(&bits, block, sizeof(bits));
    const float scale = f16_to_f32(bits);
    const std::byte* integers = block + sizeof(bits);
    if (dtype == DType::q8_0) {
      scale_bytes(integers, kBlockElements, scale, values + begin);
      continue;
    }
    for (int i = 0; i < kBlockElements; ++i) {
      const int byte = std::to_integer<int>(integers[i % 16]);
      values[begin + i] = static_cast<float>((byte >> i / 16 * 4 & 15) - kNibbleBias) * scale;
    }
  }
}

}  // namespace

RowLayout RowLayout::of(const AttentionShape& shape, DType dtype) noexcept {
  RowLayout layout;
  layout.dtype = dtype;
  layout.dim_k = shape.head_dim_k;
  layout.dim_v = shape.head_dim_v;
  layout.padded_k = padded(shape.head_dim_k);
  layout.padded_v = padded(shape.head_dim_v);
  const auto element = static_cast<std::int64_t>(bytes_of(dtype));
  const std::int64_t scales = is_quantized(dtype) ? kScaleBytes : 0;
  const std::int64_t share = dtype == DType::k8v4 ? 2 : 1;  // elements of V in the bytes of one of K
  layout.v_offset = layout.padded_k * element + scales;
  layout.row_bytes = (layout.v_offset + layout.padded_v * element / share + 63) / 64 * 64;
  layout.kv_bytes = layout.dim_k * element + (layout.dim_v * element + share - 1) / share + scales;
  return layout;
}

RowLayout RowLayout::borrowed(const AttentionShape& shape, DType dtype, std::int64_t row_bytes,
                              std::int64_t v_offset) noexcept {
  RowLayout layout;
  layout.dtype = dtype;
  layout.dim_k = layout.padded_k = shape.head_dim_k;
  layout.dim_v = layout.padded_v = shape.head_dim_v;
  layout.v_offset = v_offset;
  layout.row_bytes = row_bytes;
  layout.kv_bytes = bytes_of(dtype, layout.dim_k) + bytes_of(dtype, layout.dim_v);
  layout.is_split = true;
  return layout;
}

void load_key(const RowLayout& layout, const std::byte* row, float* key) noexcept {
  if (is_blocked(layout.dtype)) return load_blocks(layout.dtype, row, layout.padded_k, key);
  if (!is_quantized(layout.dtype)) return load_f32(layout.dtype, row, key, layout.padded_k);
  scale_bytes(row, layout.padded_k, load_float(row + layout.v_offset - kScaleBytes), key);
}

void load_value(const RowLayout& layout, const std::byte* row, float* value) noexcept {
  const std::byte* source = row + layout.v_offset;
  if (is_blocked(layout.dtype)) return load_blocks(layout.dtype, source, layout.padded_v, value);
  if (!is_quantized(layout.dtype)) return load_f32(layout.dtype, source, value, layout.padded_v);
  const float scale = load_float(source - sizeof(float));
  if (layout.dtype == DType::int8) return scale_bytes(source, layout.padded_v, scale, value);
  for (int i = 0; i < layout.padded_v; ++i) {
    const int byte = std::to_integer<int>(source[nibble_byte(i)]);
    value[i] = static_cast<float>((byte >> nibble_shift(i) & 15) - kNibbleBias) * scale;
  }
}

void write_row(const RowLayout& layout, DType dtype, const std::byte* k, const std::byte* v, std::byte* row) noexcept {
  assert(!layout.is_split && !is_blocked(layout.dtype));
  std::memset(row, 0, static_cast<std::size_t>(layout.row_bytes));
  if (!is_quantized(layout.dtype)) {
    convert(dtype, k, layout.dtype, row, layout.dim_k);
    convert(dtype, v, layout.dtype, row + layout.v_offset, layout.dim_v);
    return;
  }
  float key[kMaxHeadDim], value[kMaxHeadDim];
  load_f32(dtype, k, key, layout.dim_k);
  load_f32(dtype, v, value, layout.dim_v);
  quantize_row(layout, key, value, row);
}

void convert_row(const RowLayout& from, const std::byte* source, const RowLayout& to, std::byte* target) noexcept {
  assert(from.padded_k <= kMaxHeadDim && from.padded_v <= kMaxHeadDim);
  if (!is_quantized(from.dtype)) return write_row(to, from.dtype, source, source + from.v_offset, target);
  float key[kMaxHeadDim], value[kMaxHeadDim];
  load_key(from, source, key);
  load_value(from, source, value);
  write_row(to, DType::f32, reinterpret_cast<const std::byte*>(key), reinterpret_cast<const std::byte*>(value), target);
}

}  // namespace tandem::cpu
