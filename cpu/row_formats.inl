// How kernels read the elements of rows; compiled per ISA; no include guard.
//
// A format is read a pair of vectors at a time, in the order that costs least, its *kernel order*: bf16 gives the even
// elements and then the odd ones, since either is one operation on the 32-bit words. Queries are brought to that order
// before the scores, weighted sums of values leave it at the end; sums over elements do not see it. What is left of a
// dimension that no pair fits, at most one vector, is in natural order.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// Sums that a tile keeps in registers: half of them, or what hides the latency of an addition.
constexpr int kTileSums = kLanes == 1 ? 8 : kLanes;

struct Pair {
  Vec first, second;
};

/// What K or V of a row, or of a coded block's row, consists of.
enum class Element { f32, f16, bf16, int8, int4, fp8, q8_0, q4_0 };

constexpr bool is_scaled(Element element) {
  return element == Element::int8 || element == Element::int4 || element == Element::fp8;
}
/// Bytes of `count` elements, an even number; of blocks without their scales.
constexpr int bytes_of(Element element, int count) {
  constexpr int kHalfBytes[] = {8, 4, 4, 2, 1, 2, 2, 1};
  return count * kHalfBytes[static_cast<int>(element)] / 2;
}

/// What kernels read of an e4m3 number, so that it takes no multiplication.
constexpr float kFp8Unit = 1.f / 256.f;

struct RowElements {
  Element k, v;
};

constexpr RowElements elements_of(DType format) {
  switch (format) {
    case DType::f32:
      return {Element::f32, Element::f32};
    case DType::f16:
      return {Element::f16, Element::f16};
    case DType::bf16:
      return {Element::bf16, Element::bf16};
    case DType::int8:
      return {Element::int8, Element::int8};
    case DType::k8v4:
      return {Element::int8, Element::int4};
    case DType::q8_0:
      return {Element::q8_0, Element::q8_0};
    case DType::q4_0:
      return {Element::q4_0, Element::q4_0};
  }
  __builtin_unreachable();
}

/// A format that a generic lambda takes as a constant.
template <DType kFormat>
struct Format {
  static constexpr DType dtype = kFormat;
};

/// The kernels of_format(Format<..>) of all formats.
template <typename Kernel, typename OfFormat>
constexpr ByRowFormat<Kernel> for_each_format(OfFormat of_format) {
  return [&]<int... kFormat>(std::integer_sequence<int, kFormat...>) {
    return ByRowFormat<Kernel>{{of_format(Format<static_cast<DType>(kFormat)>{})...}};
  }
  (std::make_integer_sequence<int, kNumRowFormats>{});
}

/// A constant that a generic lambda takes; std::integral_constant would leave weak symbols.
template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

/// body(Index<0>) to body(Index<kCount - 1>): what loops over arrays of vectors would leave in memory stays in
/// registers.
template <int kCount, typename Body>
inline __attribute__((always_inline)) void unroll(Body&& body) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
    (body(Index<kIndex>{}), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}

#if defined(__AVX512F__)
inline Pair load_bf16_pair(const std::byte* p) {
  const __m512i words = _mm512_loadu_si512(p);
  return {Vec(_mm512_castsi512_ps(_mm512_slli_epi32(words, 16))),
          Vec(_mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))))};
}
inline Vec load_int8(const std::byte* p) {
  return Vec(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
}
/// e4m3 in the place of half precision's bits, which makes a number kFp8Unit of what it was: its scale makes up for it.
inline Vec load_fp8(const std::byte* p) {
  const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<short>(0xbfff)));
  return Vec(_mm512_cvtph_ps(half));
}
/// 16 elements in 8 bytes; see RowLayout.
inline Vec load_int4(const std::byte* row, int i) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + i / 2));
  const __m128i nibbles = _mm_and_si128(_mm_unpacklo_epi64(bytes, _mm_srli_epi16(bytes, 4)), _mm_set1_epi8(15));
  return Vec(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_sub_epi8(nibbles, _mm_set1_epi8(8)))));
}
inline Pair load_int4_pair(const std::byte* row, int i) { return {load_int4(row, i), load_int4(row, i + kLanes)}; }
/// Elements i to i + 15 of a block of 32 whose 16 bytes hold i below 16 in their low halves; see tandem.h, TD_Q4_0.
inline Vec load_block_int4(const std::byte* bytes, int i) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i half = _mm_and_si128(i < 16 ? both : _mm_srli_epi16(both, 4), _mm_set1_epi8(15));
  return Vec(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_sub_epi8(half, _mm_set1_epi8(8)))));
}
inline Pair deinterleave(Vec a, Vec b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return {Vec(_mm512_permutex2var_ps(a, even, b)), Vec(_mm512_permutex2var_ps(a, odd, b))};
}
inline Pair interleave(Vec even, Vec odd) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return {Vec(_mm512_permutex2var_ps(even, low, odd)), Vec(_mm512_permutex2var_ps(even, high, odd))};
}
/// Neighbouring vectors folded into one: lane sums of a in the even places of pairs, of b in the odd ones.
inline __m512 fold_2(__m512 a, __m512 b) { return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); }
inline __m512 fold_4(const Vec* x) {
  const __m512d a = _mm512_castps_pd(fold_2(x[0], x[1])), b = _mm512_castps_pd(fold_2(x[2], x[3]));
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}
inline __m512 fold_8(const Vec* x) {
  const __m512 a = fold_4(x), b = fold_4(x + 4);
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
/// sums[i] = the sum over the lanes of x[i], added in the same order for each of the kTileSums.
inline void lane_sums(const Vec* x, float* sums) {
  const __m512 a = fold_8(x), b = fold_8(x + 8);
  store(sums, Vec(_mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd))));
}
#elif defined(__AVX2__)
inline Pair load_bf16_pair(const std::byte* p) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {Vec(_mm256_castsi256_ps(_mm256_slli_epi32(words, 16))),
          Vec(_mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))))};
}
inline Vec load_int8(const std::byte* p) {
  return Vec(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
}
/// e4m3 in the place of half precision's bits, which makes a number kFp8Unit of what it was: its scale makes up for it.
inline Vec load_fp8(const std::byte* p) {
  const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m128i half = _mm_and_si128(_mm_slli_epi16(wide, 7), _mm_set1_epi16(static_cast<short>(0xbfff)));
  return Vec(_mm256_cvtph_ps(half));
}
/// Half of 16 elements in 8 bytes; see RowLayout.
inline Vec load_int4(const std::byte* row, int i) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + i / 16 * 8));
  const __m128i half = _mm_srl_epi16(bytes, _mm_cvtsi32_si128(i % 16 / 2));
  const __m128i nibbles = _mm_and_si128(half, _mm_set1_epi8(15));
  return Vec(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_sub_epi8(nibbles, _mm_set1_epi8(8)))));
}
/// All 16 elements: their bytes are read once.
inline Pair load_int4_pair(const std::byte* row, int i) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + i / 2));
  const __m128i mask = _mm_set1_epi8(15), bias = _mm_set1_epi8(8);
  const __m128i low = _mm_sub_epi8(_mm_and_si128(bytes, mask), bias);
  const __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), bias);
  return {Vec(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low))), Vec(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high)))};
}
/// Elements i to i + 7 of a block of 32 whose 16 bytes hold i below 16 in their low halves; see tandem.h, TD_Q4_0.
inline Vec load_block_int4(const std::byte* bytes, int i) {
  const __m128i both = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + i % 16));
  const __m128i half = _mm_and_si128(i < 16 ? both : _mm_srli_epi16(both, 4), _mm_set1_epi8(15));
  return Vec(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_sub_epi8(half, _mm_set1_epi8(8)))));
}
inline __m256 order_halves(__m256 x) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)); }
inline Pair deinterleave(Vec a, Vec b) {
  return {Vec(order_halves(_mm256_shuffle_ps(a, b, 0x88))), Vec(order_halves(_mm256_shuffle_ps(a, b, 0xdd)))};
}
inline Pair interleave(Vec even, Vec odd) {
  const __m256 low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
  return {Vec(_mm256_permute2f128_ps(low, high, 0x20)), Vec(_mm256_permute2f128_ps(low, high, 0x31))};
}
/// sums[i] = the sum over the lanes of x[i], added in the same order for each of the kTileSums.
inline void lane_sums(const Vec* x, float* sums) { store(sums, sum_each(x)); }
#else
inline Pair load_bf16_pair(const std::byte* p) { return {load_bf16(p), load_bf16(p + 2)}; }
inline Vec load_int8(const std::byte* p) { return Vec(static_cast<float>(static_cast<std::int8_t>(*p))); }
/// e4m3 in the place of half precision's bits, which makes a number kFp8Unit of what it was: its scale makes up for it.
inline Vec load_fp8(const std::byte* p) {
  const int wide = static_cast<std::int8_t>(*p);
  return Vec(f16_to_f32(static_cast<std::uint16_t>((wide << 7) & 0xbfff)));
}
inline Vec load_int4(const std::byte* row, int i) {
  const int byte = std::to_integer<int>(row[i / 16 * 8 + i % 8]);
  return Vec(static_cast<float>((byte >> i % 16 / 8 * 4 & 15) - 8));
}
inline Pair load_int4_pair(const std::byte* row, int i) { return {load_int4(row, i), load_int4(row, i + kLanes)}; }
/// Element i of a block of 32 whose 16 bytes hold i below 16 in their low halves; see tandem.h, TD_Q4_0.
inline Vec load_block_int4(const std::byte* bytes, int i) {
  return Vec(static_cast<float>((std::to_integer<int>(bytes[i % 16]) >> i / 16 * 4 & 15) - 8));
}
inline Pair deinterleave(Vec a, Vec b) { return {a, b}; }
inline Pair interleave(Vec even, Vec odd) { return {even, odd}; }
inline void lane_sums(const Vec* x, float* sums) {
  unroll<kTileSums>([&](auto s) { store(sums + s.value, x[s.value]); });
}
#endif

/// The scale at the start of a block.
inline Vec load_scale(const std::byte* block) {
  std::uint16_t bits;
  std::memcpy(&bits, block, sizeof(bits));
#if defined(__F16C__)
  return Vec(_cvtsh_ss(bits));
#else
  return Vec(f16_to_f32(bits));
#endif
}

/// kLanes elements of K or V, from element i on, in natural order.
template <Element element>
inline Vec load_elements(const std::byte* part, int i) {
  if constexpr (element == Element::f32) return load_unaligned(reinterpret_cast<const float*>(part + 4 * i));
  if constexpr (element == Element::f16) return load_f16(part + 2 * i);
  if constexpr (element == Element::bf16) return load_bf16(part + 2 * i);
  if constexpr (element == Element::int8) return load_int8(part + i);
  if constexpr (element == Element::int4) return load_int4(part, i);
  if constexpr (element == Element::fp8) return load_fp8(part + i);
  if constexpr (element == Element::q8_0) {
    const std::byte* block = part + i / kBlockElements * 34;
    return load_int8(block + 2 + i % kBlockElements) * load_scale(block);
  }
  if constexpr (element == Element::q4_0) {
    const std::byte* block = part + i / kBlockElements * 18;
    return load_block_int4(block + 2, i % kBlockElements) * load_scale(block);
  }
}

/// 2 kLanes elements, in kernel order.
template <Element element>
inline Pair load_pair(const std::byte* part, int i) {
  if constexpr (element == Element::bf16) {
    return load_bf16_pair(part + 2 * i);
  } else if constexpr (element == Element::int4) {
    return load_int4_pair(part, i);
  } else {
    return {load_elements<element>(part, i), load_elements<element>(part, i + kLanes)};
  }
}

/// `padded_dim` elements from natural to kernel order.
template <Element element>
void to_kernel_order(const float* natural, int padded_dim, float* ordered) {
  int i = 0;
  for (; i + 2 * kLanes <= padded_dim; i += 2 * kLanes) {
    Pair pair{load(natural + i), load(natural + i + kLanes)};
    if constexpr (element == Element::bf16) pair = deinterleave(pair.first, pair.second);
    store(ordered + i, pair.first);
    store(ordered + i + kLanes, pair.second);
  }
  if (i < padded_dim) store(ordered + i, load(natural + i));
}

/// And back.
template <Element element>
void to_natural_order(const float* ordered, int padded_dim, float* natural) noexcept {
  int i = 0;
  for (; i + 2 * kLanes <= padded_dim; i += 2 * kLanes) {
    Pair pair{load(ordered + i), load(ordered + i + kLanes)};
    if constexpr (element == Element::bf16) pair = interleave(pair.first, pair.second);
    store(natural + i, pair.first);
    store(natural + i + kLanes, pair.second);
  }
  if (i < padded_dim) store(natural + i, load(ordered + i));
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
