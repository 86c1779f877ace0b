// The vector type of one instruction set and the few operations that kernels need; no include guard.
// xsimd for AVX2 and AVX-512; a single float for `scalar`, which xsimd has no batch for. Raw intrinsics only where
// xsimd 8.1 has no operation: half-precision loads and sign masks.
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "cpu/kernels.h"
#if defined(__AVX2__)
#include <immintrin.h>
#include <xsimd/xsimd.hpp>
#endif

namespace tandem::cpu::TANDEM_ISA {
namespace {  // internal linkage for every helper: the linker can never mix two instruction sets

constexpr float kInfinity = std::numeric_limits<float>::infinity();

#if defined(__AVX2__)

#if defined(__AVX512F__)
using Vec = xsimd::batch<float, xsimd::avx512bw>;
#else
using Vec = xsimd::batch<float, xsimd::fma3<xsimd::avx2>>;
#endif
constexpr int kLanes = static_cast<int>(Vec::size);

inline Vec load(const float* p) { return Vec::load_aligned(p); }
inline Vec load_unaligned(const float* p) { return Vec::load_unaligned(p); }
inline void store(float* p, Vec x) { x.store_aligned(p); }
inline Vec max(Vec a, Vec b) { return xsimd::max(a, b); }
inline Vec min(Vec a, Vec b) { return xsimd::min(a, b); }
inline float sum(Vec x) { return xsimd::hadd(x); }
inline Vec select_lt(Vec a, Vec b, Vec if_less, Vec otherwise) { return xsimd::select(a < b, if_less, otherwise); }
inline Vec exp(Vec x) { return xsimd::exp(x); }
inline Vec log(Vec x) { return xsimd::log(x); }
inline Vec log1p(Vec x) { return xsimd::log1p(x); }
inline Vec tanh(Vec x) { return xsimd::tanh(x); }
inline Vec acos(Vec x) { return xsimd::acos(x); }
inline float max_lane(Vec x) {
  alignas(64) float lanes[kLanes];
  store(lanes, x);
  float top = lanes[0];
  for (int i = 1; i < kLanes; ++i) top = lanes[i] > top ? lanes[i] : top;
  return top;
}

#if defined(__AVX512F__)
// xsimd 8.1 has no fused multiply-add for AVX-512: its fma() multiplies, rounds and adds.
inline Vec fma(Vec a, Vec b, Vec c) { return Vec(_mm512_fmadd_ps(a, b, c)); }
/// *x in every lane. As an integer: a broadcast of floats from memory takes a port that products need on Zen 4.
inline Vec broadcast(const float* x) {
  int bits;
  std::memcpy(&bits, x, sizeof(bits));
  return Vec(_mm512_castsi512_ps(_mm512_set1_epi32(bits)));
}
inline Vec load_bf16(const std::byte* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return Vec(_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
}
inline Vec load_f16(const std::byte* p) {
  return Vec(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
inline std::uint32_t positive_mask(Vec x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ); }
/// Codes of 16 bits, kCodeLanes side by side.
using Codes = __m512i;
constexpr int kCodeLanes = 32;
inline Codes no_codes() { return _mm512_setzero_si512(); }
/// Codes without bit i get it where lane l has bit l of `bits`.
inline Codes with_bit(Codes codes, std::uint64_t bits, int i) {
  return _mm512_mask_add_epi16(codes, static_cast<__mmask32>(bits), codes,
                               _mm512_set1_epi16(static_cast<short>(1 << i)));
}
inline void store(std::uint16_t* p, Codes codes) { _mm512_storeu_si512(p, codes); }
/// Bit i of the result: byte i of 64 at p has a bit of `wanted`.
inline std::uint64_t any_bit_mask(const std::uint8_t* p, std::uint8_t wanted) {
  return _mm512_test_epi8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(wanted)));
}
/// Sums of the lanes of eight vectors.
inline __m256 sum_each_of_8(const Vec* x) {
  xsimd::batch<float, xsimd::avx2> folded[8];
  for (int r = 0; r < 8; ++r) {
    folded[r] = _mm256_add_ps(_mm512_castps512_ps256(x[r]), _mm512_extractf32x8_ps(x[r], 1));
  }
  return xsimd::haddp(folded);
}
/// Lane r of the result is the sum over the lanes of x[r]. (xsimd 8.1's haddp for AVX-512 mixes up the rows.)
inline Vec sum_each(const Vec* x) {
  return Vec(_mm512_insertf32x8(_mm512_castps256_ps512(sum_each_of_8(x)), sum_each_of_8(x + 8), 1));
}
#else
inline Vec fma(Vec a, Vec b, Vec c) { return xsimd::fma(a, b, c); }
inline Vec broadcast(const float* x) { return Vec(*x); }
inline Vec load_bf16(const std::byte* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return Vec(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
}
inline Vec load_f16(const std::byte* p) {
  return Vec(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline std::uint32_t positive_mask(Vec x) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ)));
}
/// Codes of 16 bits, kCodeLanes side by side.
using Codes = __m256i;
constexpr int kCodeLanes = 16;
inline Codes no_codes() { return _mm256_setzero_si256(); }
/// Codes without bit i get it where lane l has bit l of `bits`.
inline Codes with_bit(Codes codes, std::uint64_t bits, int i) {
  const __m256i lanes = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768);
  const __m256i chosen =
      _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(static_cast<short>(bits)), lanes), lanes);
  return _mm256_or_si256(codes, _mm256_and_si256(chosen, _mm256_set1_epi16(static_cast<short>(1 << i))));
}
inline void store(std::uint16_t* p, Codes codes) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), codes); }
/// Bit i of the result: byte i of 64 at p has a bit of `wanted`.
inline std::uint64_t any_bit_mask(const std::uint8_t* p, std::uint8_t wanted) {
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(wanted));
  std::uint64_t bits = 0;
  for (int half = 0; half < 2; ++half) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * half));
    const __m256i none = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), _mm256_setzero_si256());
    bits |= std::uint64_t{~static_cast<std::uint32_t>(_mm256_movemask_epi8(none))} << (32 * half);
  }
  return bits;
}
/// Lane r of the result is the sum over the lanes of x[r].
inline Vec sum_each(const Vec* x) { return xsimd::haddp(x); }
#endif

#else  // scalar

struct Vec {
  Vec() = default;
  explicit Vec(float x) : value(x) {}
  float value;
};
constexpr int kLanes = 1;

inline Vec load(const float* p) { return Vec(*p); }
inline Vec load_unaligned(const float* p) {
  float value;
  std::memcpy(&value, p, sizeof(value));
  return Vec(value);
}
inline void store(float* p, Vec x) { *p = x.value; }
inline Vec broadcast(const float* x) { return Vec(*x); }
inline Vec operator+(Vec a, Vec b) { return Vec(a.value + b.value); }
inline Vec operator-(Vec a, Vec b) { return Vec(a.value - b.value); }
inline Vec operator*(Vec a, Vec b) { return Vec(a.value * b.value); }
inline Vec fma(Vec a, Vec b, Vec c) { return Vec(a.value * b.value + c.value); }
inline Vec max(Vec a, Vec b) { return a.value > b.value ? a : b; }
inline Vec min(Vec a, Vec b) { return a.value < b.value ? a : b; }
inline float sum(Vec x) { return x.value; }
inline Vec select_lt(Vec a, Vec b, Vec if_less, Vec otherwise) { return a.value < b.value ? if_less : otherwise; }
inline Vec exp(Vec x) { return Vec(::expf(x.value)); }
inline Vec log(Vec x) { return Vec(::logf(x.value)); }
inline Vec log1p(Vec x) { return Vec(::log1pf(x.value)); }
inline Vec tanh(Vec x) { return Vec(::tanhf(x.value)); }
inline Vec acos(Vec x) { return Vec(::acosf(x.value)); }
inline Vec sum_each(const Vec* x) { return x[0]; }
inline float max_lane(Vec x) { return x.value; }
inline std::uint16_t load_word(const std::byte* p) {
  std::uint16_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}
inline Vec load_bf16(const std::byte* p) { return Vec(bf16_to_f32(load_word(p))); }
inline Vec load_f16(const std::byte* p) { return Vec(f16_to_f32(load_word(p))); }
inline std::uint32_t positive_mask(Vec x) { return x.value > 0.f ? 1u : 0u; }
using Codes = std::uint16_t;
constexpr int kCodeLanes = 1;
inline Codes no_codes() { return 0; }
inline Codes with_bit(Codes codes, std::uint64_t bits, int i) { return static_cast<Codes>(codes | (bits & 1) << i); }
inline void store(std::uint16_t* p, Codes codes) { *p = codes; }
inline std::uint64_t any_bit_mask(const std::uint8_t* p, std::uint8_t wanted) {
  std::uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) bits |= std::uint64_t{(p[i] & wanted) != 0} << i;
  return bits;
}

#endif

/// e^x for x <= 0 and -inf; 0 from where the result would be subnormal.
inline Vec exp_nonpositive(Vec x) { return select_lt(x, Vec(-87.f), Vec(0.f), exp(max(x, Vec(-87.f)))); }

inline float exp_nonpositive(float x) { return x < -87.f ? 0.f : ::expf(x); }

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
