// How units of calibrated codes are looked up (cpu/codec/nuq.h has their layout); compiled per ISA by
// codec_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

// Indexes: kLanes 32-bit integers, one byte of a line each. LevelTable: what they stand for; bits above a code's do not
// matter, since a table repeats its levels up to 16.
#if defined(__AVX512F__)
using Indexes = __m512i;
inline Indexes load_indexes(const std::byte* p) {
  return _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Indexes shifted_left(Indexes x, int bits) { return _mm512_slli_epi32(x, static_cast<unsigned>(bits)); }
inline Indexes shifted_right(Indexes x, int bits) { return _mm512_srli_epi32(x, static_cast<unsigned>(bits)); }
/// The bits of `mask` from b, the others from a.
template <int kMask>
inline Indexes merged(Indexes a, Indexes b) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi32(kMask), b, a, 0xca);
}
template <int kCodeBits>
struct LevelTable {
  explicit LevelTable(const float* p) : levels(_mm512_load_ps(p)) {}
  [[nodiscard]] Vec operator[](Indexes x) const { return Vec(_mm512_permutexvar_ps(x, levels)); }
  __m512 levels;
};
/// c - a b.
inline Vec minus_product(Vec a, Vec b, Vec c) { return Vec(_mm512_fnmadd_ps(a, b, c)); }
#elif defined(__AVX2__)
using Indexes = __m256i;
inline Indexes load_indexes(const std::byte* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Indexes shifted_left(Indexes x, int bits) { return _mm256_slli_epi32(x, bits); }
inline Indexes shifted_right(Indexes x, int bits) { return _mm256_srli_epi32(x, bits); }
template <int kMask>
inline Indexes merged(Indexes a, Indexes b) {
  const __m256i mask = _mm256_set1_epi32(kMask);
  return _mm256_or_si256(_mm256_andnot_si256(mask, a), _mm256_and_si256(mask, b));
}
template <int kCodeBits>
struct LevelTable {
  explicit LevelTable(const float* p) : low(_mm256_load_ps(p)), high(_mm256_load_ps(p + 8)) {}
  [[nodiscard]] Vec operator[](Indexes x) const {
    const __m256 of_low = _mm256_permutevar8x32_ps(low, x);
    if constexpr (kCodeBits < 4) return Vec(of_low);
    const __m256 is_high = _mm256_castsi256_ps(_mm256_slli_epi32(x, 28));  // bit 3 as the sign
    return Vec(_mm256_blendv_ps(of_low, _mm256_permutevar8x32_ps(high, x), is_high));
  }
  __m256 low, high;
};
inline Vec minus_product(Vec a, Vec b, Vec c) { return xsimd::fnma(a, b, c); }
#else
using Indexes = std::uint32_t;
inline Indexes load_indexes(const std::byte* p) { return std::to_integer<std::uint32_t>(*p); }
inline Indexes shifted_left(Indexes x, int bits) { return x << bits; }
inline Indexes shifted_right(Indexes x, int bits) { return x >> bits; }
template <int kMask>
inline Indexes merged(Indexes a, Indexes b) {
  return (a & ~static_cast<std::uint32_t>(kMask)) | (b & kMask);
}
template <int kCodeBits>
struct LevelTable {
  explicit LevelTable(const float* p) : levels(p) {}
  [[nodiscard]] Vec operator[](Indexes x) const { return load(levels + (x & 15)); }
  const float* levels;
};
inline Vec minus_product(Vec a, Vec b, Vec c) { return Vec(c.value - a.value * b.value); }
#endif

/// Calls take(Index<field>, Vec) for the kLanes lanes at `unit` of all fields; the first four are looked up in `first`.
template <int kBits, typename Take>
inline __attribute__((always_inline)) void for_unit_fields(const std::byte* unit, const LevelTable<kBits>& first,
                                                           const LevelTable<kBits>& second, Take&& take) {
  constexpr int kFieldBits = kBits == 4 ? 4 : 2;
  constexpr int kLineFields = 8 / kFieldBits;
  Indexes lines[kNuqFields / kLineFields];
  unroll<kNuqFields / kLineFields>([&](auto line) { lines[line.value] = load_indexes(unit + line.value * kNuqLanes); });
  Indexes upper = lines[0];
  if constexpr (kBits == 3) upper = shifted_left(load_indexes(unit + 2 * kNuqLanes), 2);
  unroll<kNuqFields>([&](auto field) {
    constexpr int kField = decltype(field)::value;
    Indexes code = shifted_right(lines[kField / kLineFields], kField % kLineFields * kFieldBits);
    if constexpr (kBits == 3) code = merged<4>(code, shifted_right(upper, kField));
    take(field, kField < kNuqFields / 2 ? first[code] : second[code]);
  });
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
