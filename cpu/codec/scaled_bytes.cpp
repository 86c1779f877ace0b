#include "cpu/codec/scaled_bytes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/codec/fp8.h"
#include "cpu/row_layout.h"

namespace tandem::cpu {
namespace {

constexpr int kScaleBytes = sizeof(float);

std::byte to_byte(CodecKind kind, double multiple) noexcept {
  return kind == CodecKind::int8 ? static_cast<std::byte>(std::lrint(multiple))
                                 : static_cast<std::byte>(f32_to_fp8(static_cast<float>(multiple)));
}

float from_byte(CodecKind kind, std::byte byte) noexcept {
  const auto bits = std::to_integer<std::uint8_t>(byte);
  return kind == CodecKind::int8 ? static_cast<float>(static_cast<std::int8_t>(bits)) : fp8_to_f32(bits);
}

/// In double: no magnitude that fp32 has, however small, makes the quotient overflow.
void encode_part(CodecKind kind, const float* x, int rows, int padded_dim, std::byte* codes,
                 std::byte* scales) noexcept {
  const double most = kind == CodecKind::int8 ? 127.0 : static_cast<double>(kLargestFp8);
  for (int r = 0; r < rows; ++r, x += padded_dim, codes += padded_dim) {
    float largest = 0.f;
    for (int i = 0; i < padded_dim; ++i) largest = std::max(largest, std::abs(x[i]));
    const auto scale = static_cast<float>(static_cast<double>(largest) / most);
    std::memcpy(scales + r * kScaleBytes, &scale, kScaleBytes);
    const double inverse = largest > 0.f ? most / static_cast<double>(largest) : 0.0;
    for (int i = 0; i < padded_dim; ++i) codes[i] = to_byte(kind, std::clamp(x[i] * inverse, -most, most));
  }
}

void decode_part(CodecKind kind, const std::byte* codes, const std::byte* scales, int first, int count, int padded_dim,
                 float* x) noexcept {
  for (int r = first; r < first + count; ++r, x += padded_dim) {
    float scale;
    std::memcpy(&scale, scales + r * kScaleBytes, kScaleBytes);
    for (int i = 0; i < padded_dim; ++i) x[i] = from_byte(kind, codes[r * padded_dim + i]) * scale;
  }
}

}  // namespace

BlockFormat scaled_bytes_format(CodecKind kind, const AttentionShape& shape) noexcept {
  BlockFormat format = block_format(kind, shape);
  format.bits = 8;
  format.block_rows = kPageRows;
  format.k_stride = format.padded_k;
  format.v_stride = format.padded_v;
  format.k_side = format.block_rows * format.k_stride;
  format.v_codes = format.k_side + format.block_rows * kScaleBytes;
  format.v_side = format.v_codes + format.block_rows * format.v_stride;
  format.block_bytes = format.v_side + format.block_rows * kScaleBytes;
  format.code_bytes = format.block_rows * std::int64_t{format.dim_k + format.dim_v + 2 * kScaleBytes};
  return format;
}

void encode_scaled_bytes(const BlockFormat& format, const float* k, const float* v, std::byte* block) noexcept {
  encode_part(format.kind, k, format.block_rows, format.padded_k, block + format.k_codes, block + format.k_side);
  encode_part(format.kind, v, format.block_rows, format.padded_v, block + format.v_codes, block + format.v_side);
}

void decode_scaled_bytes(const BlockFormat& format, const std::byte* block, int first, int count, float* k,
                         float* v) noexcept {
  decode_part(format.kind, block + format.k_codes, block + format.k_side, first, count, format.padded_k, k);
  decode_part(format.kind, block + format.v_codes, block + format.v_side, first, count, format.padded_v, v);
}

}  // namespace tandem::cpu
