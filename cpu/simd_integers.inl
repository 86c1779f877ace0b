// Vectors of 32-bit integers and of bytes, and the few operations that codes need; no include guard. xsimd 8.1 has no
// batch of them that also covers `scalar`.
namespace tandem::cpu::TANDEM_ISA {
namespace {

#if defined(__AVX512F__)

using Words = __m512i;  // kLanes 32-bit integers
inline Words words(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
inline Words load_words(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
inline Words add(Words a, Words b) { return _mm512_add_epi32(a, b); }
inline Words multiply(Words a, Words b) { return _mm512_mullo_epi32(a, b); }
inline Vec upper_24_bits(Words x) { return Vec(_mm512_cvtepi32_ps(_mm512_srli_epi32(x, 8))); }
inline Vec from_bits_in(Vec x) { return Vec(_mm512_castsi512_ps(_mm512_cvtps_epi32(x))); }
inline Vec load_u16(const std::uint16_t* p) {
  return Vec(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)))));
}
inline void store_integers(std::uint32_t* p, Vec x) { _mm512_storeu_si512(p, _mm512_cvttps_epi32(x)); }
inline std::uint32_t bit_of_each(const std::uint32_t* p, int bit) {
  return _mm512_test_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(1 << bit));
}
inline void round_16_to_bytes(const float* x, std::uint8_t* out) {
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_load_ps(x))));
}

using Bytes = __m512i;  // kByteLanes columns of a line
constexpr int kByteLanes = 64;
inline Bytes zero_bytes() { return _mm512_setzero_si512(); }
inline Bytes load_bytes(const std::byte* p) { return _mm512_load_si512(p); }
inline Bytes low_nibbles(Bytes x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes x) { return low_nibbles(_mm512_srli_epi16(x, 4)); }
inline Bytes lookup(const std::uint8_t* table, Bytes index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), index);
}
inline Bytes add_bytes(Bytes a, Bytes b) { return _mm512_add_epi8(a, b); }
inline Bytes add_pairs(Bytes a, Bytes b) { return _mm512_add_epi16(a, b); }
inline Bytes subtract_pairs(Bytes a, Bytes b) { return _mm512_sub_epi16(a, b); }
inline Bytes odd_bytes(Bytes x) { return _mm512_srli_epi16(x, 8); }
inline Bytes as_odd_bytes(Bytes x) { return _mm512_slli_epi16(x, 8); }
inline void store_pairs(std::uint16_t* p, Bytes x) { _mm512_store_si512(p, x); }

#elif defined(__AVX2__)

using Words = __m256i;
inline Words words(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
inline Words load_words(const std::uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Words add(Words a, Words b) { return _mm256_add_epi32(a, b); }
inline Words multiply(Words a, Words b) { return _mm256_mullo_epi32(a, b); }
inline Vec upper_24_bits(Words x) { return Vec(_mm256_cvtepi32_ps(_mm256_srli_epi32(x, 8))); }
inline Vec from_bits_in(Vec x) { return Vec(_mm256_castsi256_ps(_mm256_cvtps_epi32(x))); }
inline Vec load_u16(const std::uint16_t* p) {
  return Vec(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p)))));
}
inline void store_integers(std::uint32_t* p, Vec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvttps_epi32(x));
}
inline std::uint32_t bit_of_each(const std::uint32_t* p, int bit) {
  const __m256i x =
      _mm256_sll_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm_cvtsi32_si128(31 - bit));
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(x)));
}
inline void round_16_to_bytes(const float* x, std::uint8_t* out) {
  const __m256i a = _mm256_cvtps_epi32(_mm256_load_ps(x));
  const __m256i b = _mm256_cvtps_epi32(_mm256_load_ps(x + 8));
  const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(low, high));
}

using Bytes = __m256i;
constexpr int kByteLanes = 32;
inline Bytes zero_bytes() { return _mm256_setzero_si256(); }
inline Bytes load_bytes(const std::byte* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
inline Bytes low_nibbles(Bytes x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes x) { return low_nibbles(_mm256_srli_epi16(x, 4)); }
inline Bytes lookup(const std::uint8_t* table, Bytes index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table))),
                             index);
}
inline Bytes add_bytes(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
inline Bytes add_pairs(Bytes a, Bytes b) { return _mm256_add_epi16(a, b); }
inline Bytes subtract_pairs(Bytes a, Bytes b) { return _mm256_sub_epi16(a, b); }
inline Bytes odd_bytes(Bytes x) { return _mm256_srli_epi16(x, 8); }
inline Bytes as_odd_bytes(Bytes x) { return _mm256_slli_epi16(x, 8); }
inline void store_pairs(std::uint16_t* p, Bytes x) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), x); }

#else  // scalar

using Words = std::uint32_t;
inline Words words(std::uint32_t x) { return x; }
inline Words load_words(const std::uint32_t* p) { return *p; }
inline Words add(Words a, Words b) { return a + b; }
inline Words multiply(Words a, Words b) { return a * b; }
inline Vec upper_24_bits(Words x) { return Vec(static_cast<float>(x >> 8)); }
inline Vec from_bits_in(Vec x) { return Vec(std::bit_cast<float>(static_cast<std::uint32_t>(x.value))); }
inline Vec load_u16(const std::uint16_t* p) { return Vec(static_cast<float>(*p)); }
inline void store_integers(std::uint32_t* p, Vec x) { *p = static_cast<std::uint32_t>(x.value); }
inline std::uint32_t bit_of_each(const std::uint32_t* p, int bit) { return *p >> bit & 1u; }
inline void round_16_to_bytes(const float* x, std::uint8_t* out) {
  for (int i = 0; i < 16; ++i) out[i] = static_cast<std::uint8_t>(x[i] + 0.5f);
}

#endif

inline Vec floor(Vec x) {
#if defined(__AVX2__)
  return xsimd::floor(x);
#else
  return Vec(::floorf(x.value));
#endif
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
