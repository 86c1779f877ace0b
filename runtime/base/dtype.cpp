#include "runtime/base/dtype.h"

#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/base/error.h"

namespace tandem {
namespace {

template <typename Word>
Word load_word(const std::byte* source, std::int64_t i) noexcept {
  Word word;
  std::memcpy(&word, source + i * static_cast<std::int64_t>(sizeof(Word)), sizeof(Word));
  return word;
}

/// True when every word, without its sign, is less than `bound`: the bits of a magnitude are ordered like its value.
template <typename Word>
bool all_words_below(const std::byte* source, std::int64_t count, Word bound) noexcept {
  constexpr auto kMagnitude = static_cast<Word>(std::numeric_limits<Word>::max() / 2);
  bool below = true;  // no early exit, so that the loop vectorises
  for (std::int64_t i = 0; i < count; ++i) below &= (load_word<Word>(source, i) & kMagnitude) < bound;
  return below;
}

}  // namespace

const char* to_string(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::int8:
      return "int8";
    case DType::k8v4:
      return "k8v4";
    case DType::q8_0:
      return "q8_0";
    case DType::q4_0:
      return "q4_0";
  }
  return "unknown";
}

DType parse_dtype(std::string_view field, std::string_view text) {
  if (text == "f32" || text == "fp32") return DType::f32;
  if (text == "f16" || text == "fp16") return DType::f16;
  if (text == "bf16") return DType::bf16;
  fail(ErrorCode::invalid_argument, field, " is '", text, "'; allowed: f32, f16, bf16");
}

DType parse_row_format(std::string_view field, std::string_view text) {
  if (text == "int8") return DType::int8;
  if (text == "k8v4") return DType::k8v4;
  for (const std::string_view element : {"f32", "fp32", "f16", "fp16", "bf16"}) {
    if (text == element) return parse_dtype(field, text);
  }
  fail(ErrorCode::invalid_argument, field, " is '", text, "'; allowed: f32, f16, bf16, int8, k8v4");
}

std::uint16_t f32_to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // keep it a quiet NaN
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_f32(std::uint16_t bits) noexcept {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude << 13));
  // Scaling by 2^112 moves the half's exponent bias (15) to the single's (127) and normalises subnormals.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

std::uint16_t f32_to_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // rounds to 65536 or beyond
  if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 lets the FPU round at the half's last bit
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(rounded) - 0x3f000000u));
  }
  const std::uint32_t rebased = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | (rebased >> 13));
}

void load_f32(DType dtype, const std::byte* source, float* target, std::int64_t count) noexcept {
  switch (dtype) {
    case DType::f32:
      std::memcpy(target, source, static_cast<std::size_t>(count) * 4);
      return;
    case DType::f16:
      for (std::int64_t i = 0; i < count; ++i) target[i] = f16_to_f32(load_word<std::uint16_t>(source, i));
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < count; ++i) target[i] = bf16_to_f32(load_word<std::uint16_t>(source, i));
      return;
    default:
      assert(false);
  }
}

void store_f32(DType dtype, const float* source, std::byte* target, std::int64_t count) noexcept {
  assert(!is_quantized(dtype));
  if (dtype == DType::f32) {
    std::memcpy(target, source, static_cast<std::size_t>(count) * 4);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint16_t word = dtype == DType::f16 ? f32_to_f16(source[i]) : f32_to_bf16(source[i]);
    std::memcpy(target + 2 * i, &word, 2);
  }
}

void convert(DType from, const std::byte* source, DType to, std::byte* target, std::int64_t count) noexcept {
  assert(!is_quantized(from) && !is_quantized(to));
  if (from == to) {
    std::memcpy(target, source, static_cast<std::size_t>(count) * bytes_of(from));
    return;
  }
  constexpr std::int64_t kChunk = 64;
  float chunk[kChunk];
  for (std::int64_t begin = 0; begin < count; begin += kChunk) {
    const std::int64_t n = count - begin < kChunk ? count - begin : kChunk;
    load_f32(from, source + begin * static_cast<std::int64_t>(bytes_of(from)), chunk, n);
    store_f32(to, chunk, target + begin * static_cast<std::int64_t>(bytes_of(to)), n);
  }
}

bool all_finite(DType dtype, const std::byte* source, std::int64_t count) noexcept {
  return all_below(dtype, source, count, std::numeric_limits<float>::infinity());
}

bool all_below(DType dtype, const std::byte* source, std::int64_t count, float bound) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(bound);
  switch (dtype) {
    case DType::f32:
      return all_words_below<std::uint32_t>(source, count, bits);
    case DType::f16: {  // a bound between two halves admits the lower one
      const std::uint16_t nearest = f32_to_f16(bound);
      return all_words_below<std::uint16_t>(source, count, f16_to_f32(nearest) < bound ? nearest + 1 : nearest);
    }
    case DType::bf16:
      return all_words_below<std::uint16_t>(source, count, static_cast<std::uint16_t>((bits + 0xffffu) >> 16));
    default:
      assert(false);
  }
  return false;
}

float overflow_bound(DType first, DType second) noexcept {
  const bool is_half = first == DType::f16 || second == DType::f16;
  if (first == DType::bf16 && second == DType::f16) return 65408.f;  // rounds to 65536 as bf16
  if (is_half) return 65520.f;
  return first == DType::bf16 || second == DType::bf16 ? 0x1.ffp127f : std::numeric_limits<float>::infinity();
}

}  // namespace tandem
