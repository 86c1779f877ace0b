#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tandem {

/// Element types of K, V, q and out; from kNumDTypes on formats that only rows of the host tier have: K in 8 bits and V
/// in 8 or 4, with a scale per row; from kNumHostDTypes on formats that only borrowed rows have: blocks of
/// kBlockElements elements with a scale each, as ggml stores them (see cpu/row_layout.h). The values are those of
/// td_dtype.
enum class DType : std::int32_t { f32 = 0, f16 = 1, bf16 = 2, int8 = 3, k8v4 = 4, q8_0 = 5, q4_0 = 6 };

inline constexpr int kNumDTypes = 3;
inline constexpr int kNumHostDTypes = 5;
inline constexpr int kNumRowFormats = 7;
inline constexpr int kBlockElements = 32;

/// True for a format of host rows that is no element type.
constexpr bool is_quantized(DType dtype) noexcept { return static_cast<int>(dtype) >= kNumDTypes; }
/// True for a format of blocks, of which every one has a scale.
constexpr bool is_blocked(DType dtype) noexcept { return static_cast<int>(dtype) >= kNumHostDTypes; }

/// Of an element; of K where the elements of K and V differ. Not for formats of blocks.
constexpr std::size_t bytes_of(DType dtype) noexcept { return is_quantized(dtype) ? 1 : dtype == DType::f32 ? 4 : 2; }

/// Of `count` elements that lie side by side, whole blocks where the format has these.
constexpr std::int64_t bytes_of(DType dtype, std::int64_t count) noexcept {
  if (is_blocked(dtype)) return count / kBlockElements * (dtype == DType::q8_0 ? 34 : 18);
  return count * static_cast<std::int64_t>(bytes_of(dtype));
}

const char* to_string(DType dtype) noexcept;

/// "f32", "f16", "bf16" (also "fp32", "fp16"); throws Error(invalid_argument) naming `field` otherwise.
DType parse_dtype(std::string_view field, std::string_view text);
/// Also "int8" and "k8v4".
DType parse_row_format(std::string_view field, std::string_view text);

/// bfloat16 is the upper half of an IEEE single.
constexpr float bf16_to_f32(std::uint16_t bits) noexcept {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);  // CUDA sources are C++17
}

/// Rounds to nearest even; NaN stays NaN, overflow becomes infinity.
std::uint16_t f32_to_bf16(float value) noexcept;

/// IEEE half, subnormals included.
float f16_to_f32(std::uint16_t bits) noexcept;

/// Rounds to nearest even; NaN stays NaN, overflow becomes infinity.
std::uint16_t f32_to_f16(float value) noexcept;

// What follows is for element types; quantized rows are read by cpu::load_key and cpu::load_value.

/// Reads `count` elements of `dtype` at `source` as fp32. Any alignment of the element type.
void load_f32(DType dtype, const std::byte* source, float* target, std::int64_t count) noexcept;

/// Writes `count` fp32 values as elements of `dtype`.
void store_f32(DType dtype, const float* source, std::byte* target, std::int64_t count) noexcept;

/// Copies `count` elements, converting when the types differ (through fp32).
void convert(DType from, const std::byte* source, DType to, std::byte* target, std::int64_t count) noexcept;

/// False when any of the `count` elements is NaN or infinite.
bool all_finite(DType dtype, const std::byte* source, std::int64_t count) noexcept;

/// True when every element is less than `bound` > 0 in magnitude, so not NaN either.
bool all_below(DType dtype, const std::byte* source, std::int64_t count, float bound) noexcept;

/// The least magnitude that becomes infinite when it is stored as `first` and then, from there, as `second`.
float overflow_bound(DType first, DType second) noexcept;

}  // namespace tandem
