// Weighted sums of rows of codes of 2 or 4 bits, as codec/packed_codes.h lays them out; compiled per ISA by
// codec_kernels.cpp; no include guard.
//
// A row is one token's values or one channel's keys: the lanes of a vector are elements, or tokens, and nothing is
// summed over them.
//
// What a code stands for is a `Coding`: `bits`, and operator()(words, Index<j>), the levels of vector j of a chunk of
// 16 bytes. Scales and offsets of channels or groups are the caller's: folded into queries and weights.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kChunkBytes = 16;
constexpr int kUnit = 32;  // lanes of two vectors, which tiles take together

#if defined(__AVX512F__)
/// A byte of a chunk in each lane.
using CodeWords = __m512i;
inline CodeWords load_code_words(const std::byte* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec to_floats(CodeWords words) { return Vec(_mm512_cvtepi32_ps(words)); }
inline CodeWords shifted(CodeWords words, int count) { return _mm512_srli_epi32(words, static_cast<unsigned>(count)); }
inline CodeWords masked(CodeWords words, int mask) { return _mm512_and_si512(words, _mm512_set1_epi32(mask)); }
#elif defined(__AVX2__)
using CodeWords = __m256i;
inline CodeWords load_code_words(const std::byte* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Vec to_floats(CodeWords words) { return Vec(_mm256_cvtepi32_ps(words)); }
inline CodeWords shifted(CodeWords words, int count) { return _mm256_srli_epi32(words, count); }
inline CodeWords masked(CodeWords words, int mask) { return _mm256_and_si256(words, _mm256_set1_epi32(mask)); }
#else
using CodeWords = int;
inline CodeWords load_code_words(const std::byte* p) { return std::to_integer<int>(*p); }
inline Vec to_floats(CodeWords words) { return Vec(static_cast<float>(words)); }
inline CodeWords shifted(CodeWords words, int count) { return words >> count; }
inline CodeWords masked(CodeWords words, int mask) { return words & mask; }
#endif

/// Levels 0, 1, 2, ... A conversion leaves the ports to products, which a permutation of a table would share.
template <int kBits>
struct UniformCoding {
  static constexpr int bits = kBits;
  template <typename Vector>
  inline __attribute__((always_inline)) Vec operator()(CodeWords words, Vector j) const {
    constexpr int kShift = kBits * decltype(j)::value;
    if constexpr (kShift > 0) words = shifted(words, kShift);
    if constexpr (kShift + kBits < 8) words = masked(words, (1 << kBits) - 1);
    return to_floats(words);
  }
};

/// Rows of codes and what their levels are weighted with.
struct WeightedCodes {
  const std::byte* codes;
  std::int64_t stride;  ///< bytes between rows
  int count;
  const float* weights;          ///< (heads, groups, weight_stride): of each row
  std::ptrdiff_t weight_stride;  ///< at least count
  int group;                     ///< lanes of a row that share its weight, a multiple of kUnit
  int lanes;                     ///< of a row, and of an acc
};

/// acc[h] += sum over rows of weight * level for kHeads vectors and kUnits units from `unit` on, of which the first is
/// vector kFirst of a chunk, and for kLanes of each 16 from `lane` on.
template <int kHeads, int kUnits, int kFirst, typename Coding>
inline void add_codes_tile(const WeightedCodes& rows, int unit, int lane, const Coding& coding, Upcoming& upcoming,
                           float* acc) {
  constexpr int kVectors = 8 / Coding::bits, kSums = 2 * kUnits;
  constexpr int kUnitBytes = kLanes * 2 * Coding::bits / 8;
  const std::ptrdiff_t head_stride = rows.lanes / rows.group * rows.weight_stride;
  const float* weights[kUnits];
  unroll<kUnits>(
      [&](auto u) { weights[u.value] = rows.weights + (unit + u.value) * kUnit / rows.group * rows.weight_stride; });
  float* target = acc + static_cast<std::ptrdiff_t>(unit) * kUnit + lane;
  const auto place = [&](auto s) {  // sums are (kHeads, kUnits, 2)
    constexpr int kHead = decltype(s)::value / kSums, kVector = decltype(s)::value % kSums;
    return target + static_cast<std::ptrdiff_t>(kHead) * rows.lanes + kVector * kPackedLanes;
  };
  Vec sums[kHeads * kSums];
  unroll<kHeads * kSums>([&](auto s) { sums[s.value] = load(place(s)); });
  const std::byte* codes = rows.codes + 2 * unit / kVectors * kChunkBytes + lane;
  for (int r = 0; r < rows.count; ++r, codes += rows.stride) {
    unroll<kUnits>([&](auto u) {
      constexpr int kVector = kFirst + 2 * decltype(u)::value;
      const CodeWords words = load_code_words(codes + kVector / kVectors * kChunkBytes);
      const Vec first = coding(words, Index<kVector % kVectors>{}),
                second = coding(words, Index<kVector % kVectors + 1>{});
      unroll<kHeads>([&](auto h) {
        const Vec weight = broadcast(weights[u.value] + h.value * head_stride + r);
        Vec* sum = sums + h.value * kSums + 2 * u.value;
        sum[0] = fma(weight, first, sum[0]);
        sum[1] = fma(weight, second, sum[1]);
      });
      upcoming.while_reading<(kUnitBytes > 0 ? kUnitBytes : 1)>(r * kUnits + u.value);
    });
  }
  unroll<kHeads * kSums>([&](auto s) { store(place(s), sums[s.value]); });
}

/// The same for all lanes.
template <int kHeads, typename Coding>
inline void add_codes(const WeightedCodes& rows, const Coding& coding, Upcoming& upcoming, float* acc) {
  constexpr int kUnits = kTileSums / (2 * kHeads) > 0 ? kTileSums / (2 * kHeads) : 1;
  constexpr int kHalves = 4 / Coding::bits;  // units of a chunk: 1 or 2
  const int num_units = rows.lanes / kUnit;
  for (int lane = 0; lane < kPackedLanes; lane += kLanes) {
    int unit = 0;
    if constexpr (kUnits > 2) {
      for (; unit + kUnits <= num_units; unit += kUnits)
        add_codes_tile<kHeads, kUnits, 0>(rows, unit, lane, coding, upcoming, acc);
    }
    if constexpr (kUnits >= 2) {
      for (; unit + 2 <= num_units; unit += 2) add_codes_tile<kHeads, 2, 0>(rows, unit, lane, coding, upcoming, acc);
    }
    for (; unit < num_units; ++unit) {
      if (unit % kHalves == 0) {
        add_codes_tile<kHeads, 1, 0>(rows, unit, lane, coding, upcoming, acc);
      } else {
        add_codes_tile<kHeads, 1, 8 / Coding::bits - 2>(rows, unit, lane, coding, upcoming, acc);
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
