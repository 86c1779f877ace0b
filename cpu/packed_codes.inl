// Products with codes of 2 or 4 bits as codec/packed_codes.h lays them out; compiled per ISA by codec_kernels.cpp; no
// include guard.
//
// What a code stands for is a `Coding`: `bits`, and operator()(words, Index<j>), the levels of vector j of a chunk of 16
// bytes. Scales and offsets of channels or groups are the caller's: folded into queries and weights.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kChunkBytes = 16;
constexpr int kUnit = 32;  // elements of two vectors, which tiles of values take together

#if defined(__AVX512F__)
/// A byte of a chunk in each lane.
using CodeWords = __m512i;
inline CodeWords load_code_words(const std::byte* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
/// Levels 0, 1, 2, ... A permutation reads the low 4 bits of a lane: 16 levels, or 4 repeated, need no mask.
template <int kBits>
struct UniformCoding {
  static constexpr int bits = kBits;
  template <typename Vector>
  Vec operator()(CodeWords words, Vector j) const {
    return Vec(_mm512_permutexvar_ps(_mm512_srli_epi32(words, kBits * j.value), levels));
  }
  static constexpr float kMost = (1 << kBits) - 1;
  __m512 levels = kBits == 4 ? _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
                             : _mm512_setr_ps(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
};
#elif defined(__AVX2__)
using CodeWords = __m256i;
inline CodeWords load_code_words(const std::byte* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
template <int kBits>
struct UniformCoding {
  static constexpr int bits = kBits;
  template <typename Vector>
  Vec operator()(CodeWords words, Vector j) const {
    const __m256i codes = _mm256_srli_epi32(words, kBits * j.value);
    return Vec(_mm256_cvtepi32_ps(_mm256_and_si256(codes, _mm256_set1_epi32((1 << kBits) - 1))));
  }
};
#else
using CodeWords = int;
inline CodeWords load_code_words(const std::byte* p) { return std::to_integer<int>(*p); }
template <int kBits>
struct UniformCoding {
  static constexpr int bits = kBits;
  template <typename Vector>
  Vec operator()(CodeWords words, Vector j) const {
    return Vec(static_cast<float>(words >> (kBits * j.value) & ((1 << kBits) - 1)));
  }
};
#endif

/// totals[h * kRows + r] = <queries[h], levels of rows[r]> for kHeads queries of code_dim floats, a whole number of
/// chunks, and kRows = kTileSums / kHeads rows.
template <int kHeads, typename Coding>
inline void dot_codes_tile(const float* queries, int code_dim, const std::byte* const* rows, const Coding& coding,
                           Upcoming& upcoming, float* totals) {
  constexpr int kRows = kTileSums / kHeads, kVectors = 8 / Coding::bits;
  Vec sums[kTileSums];  // (kHeads, kRows)
  unroll<kTileSums>([&](auto s) { sums[s.value] = Vec(0.f); });
  int step = 0;
  for (int i = 0, chunk = 0; i < code_dim; i += kPackedLanes * kVectors, chunk += kChunkBytes) {
    for (int lane = 0; lane < kPackedLanes; lane += kLanes, step += kRows) {
      unroll<kRows>([&](auto r) {
        const CodeWords words = load_code_words(rows[r.value] + chunk + lane);
        unroll<kVectors>([&](auto j) {
          const Vec level = coding(words, j);
          unroll<kHeads>([&](auto h) {
            const float* query = queries + static_cast<std::ptrdiff_t>(h.value) * code_dim + i + lane;
            Vec& total = sums[h.value * kRows + r.value];
            total = fma(load(query + j.value * kPackedLanes), level, total);
          });
        });
        upcoming.while_reading<kLanes>(step + r.value);
      });
    }
  }
  lane_sums(sums, totals);
}

/// out[h * kBlockRows + r] = bias[h] + <queries[h], levels of row r> for `count` rows, `stride` bytes apart.
template <int kHeads, typename Coding>
inline void dot_codes(const float* queries, int code_dim, const float* bias, const std::byte* codes,
                      std::int64_t stride, int count, const Coding& coding, Upcoming& upcoming, float* out) {
  constexpr int kRows = kTileSums / kHeads;
  for (int r = 0; r < count; r += kRows) {
    const std::byte* rows[kRows];
    for (int i = 0; i < kRows; ++i) rows[i] = codes + (r + i < count ? r + i : r) * stride;
    alignas(64) float totals[kTileSums];
    dot_codes_tile<kHeads>(queries, code_dim, rows, coding, upcoming, totals);
    const int present = count - r < kRows ? count - r : kRows;
    for (int h = 0; h < kHeads; ++h) {
      for (int i = 0; i < present; ++i) out[h * kBlockRows + r + i] = totals[h * kRows + i] + bias[h];
    }
  }
}

/// Rows of codes and what their levels are weighted with.
struct WeightedCodes {
  const std::byte* codes;
  std::int64_t stride;  ///< bytes between rows
  int count;
  const float* weights;       ///< (heads, groups, kBlockRows)
  int group, padded_dim;      ///< elements that share a weight, a multiple of kUnit; elements of an acc
  [[nodiscard]] int groups() const { return padded_dim / group; }
};

/// acc[h] += sum over rows of weight * level for kHeads vectors and kUnits units from `unit` on, of which the first is
/// vector kFirst of a chunk, and for kLanes of 16 elements from `lane` on.
template <int kHeads, int kUnits, int kFirst, typename Coding>
inline void add_codes_tile(const WeightedCodes& rows, int unit, int lane, const Coding& coding, Upcoming& upcoming,
                           float* acc) {
  constexpr int kVectors = 8 / Coding::bits, kSums = 2 * kUnits;
  constexpr int kUnitBytes = kLanes * 2 * Coding::bits / 8;
  const std::ptrdiff_t head_stride = static_cast<std::ptrdiff_t>(rows.groups()) * kBlockRows;
  const float* weights[kUnits];
  unroll<kUnits>([&](auto u) {
    weights[u.value] = rows.weights + static_cast<std::ptrdiff_t>((unit + u.value) * kUnit / rows.group) * kBlockRows;
  });
  float* target = acc + static_cast<std::ptrdiff_t>(unit) * kUnit + lane;
  const auto place = [&](auto s) {  // sums are (kHeads, kUnits, 2)
    constexpr int kHead = decltype(s)::value / kSums, kVector = decltype(s)::value % kSums;
    return target + static_cast<std::ptrdiff_t>(kHead) * rows.padded_dim + kVector * kPackedLanes;
  };
  Vec sums[kHeads * kSums];
  unroll<kHeads * kSums>([&](auto s) { sums[s.value] = load(place(s)); });
  const std::byte* codes = rows.codes + 2 * unit / kVectors * kChunkBytes + lane;
  for (int r = 0; r < rows.count; ++r, codes += rows.stride) {
    unroll<kUnits>([&](auto u) {
      constexpr int kVector = kFirst + 2 * decltype(u)::value;
      const CodeWords words = load_code_words(codes + kVector / kVectors * kChunkBytes);
      const Vec first = coding(words, Index<kVector % kVectors>{}), second = coding(words, Index<kVector % kVectors + 1>{});
      unroll<kHeads>([&](auto h) {
        const Vec weight(weights[u.value][h.value * head_stride + r]);
        Vec* sum = sums + h.value * kSums + 2 * u.value;
        sum[0] = fma(weight, first, sum[0]);
        sum[1] = fma(weight, second, sum[1]);
      });
      upcoming.while_reading<(kUnitBytes > 0 ? kUnitBytes : 1)>(r * kUnits + u.value);
    });
  }
  unroll<kHeads * kSums>([&](auto s) { store(place(s), sums[s.value]); });
}

/// The same for all elements.
template <int kHeads, typename Coding>
inline void add_codes(const WeightedCodes& rows, const Coding& coding, Upcoming& upcoming, float* acc) {
  constexpr int kUnits = kTileSums / (2 * kHeads) > 0 ? kTileSums / (2 * kHeads) : 1;
  constexpr int kHalves = 4 / Coding::bits;  // units of a chunk: 1 or 2
  const int num_units = rows.padded_dim / kUnit;
  for (int lane = 0; lane < kPackedLanes; lane += kLanes) {
    int unit = 0;
    if constexpr (kUnits > 1) {
      for (; unit + kUnits <= num_units; unit += kUnits)
        add_codes_tile<kHeads, kUnits, 0>(rows, unit, lane, coding, upcoming, acc);
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
