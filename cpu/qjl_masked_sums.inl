// QJL without the permutations of AVX-512: sums of sketches by sign bits; compiled per ISA by codec_kernels.cpp; no
// include guard.
//
// A prepared query begins with its sketch S^T q. A sum of +-x over sign bits is twice the sum where the bit is set less
// the sum of all: one masked addition for each vector of the sketch and key.
#if !defined(__AVX512F__)
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// The byte of a key's words that has the bit of a column.
inline int word_byte(int column) { return column / 32 * kQjlWordRows * kQjlWordBytes + column % 32 / 8; }

#if defined(__AVX2__)
/// The sign bits of kLanes columns of a key, whose words begin at `codes`.
using LaneBits = __m256;
inline LaneBits lane_bits(const std::byte* codes, int column) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i byte = _mm256_set1_epi32(std::to_integer<int>(codes[word_byte(column)]));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(byte, lanes), lanes));
}
inline Vec add_where(LaneBits bits, Vec total, Vec x) { return total + Vec(_mm256_and_ps(bits, x)); }
#else
using LaneBits = bool;
inline LaneBits lane_bits(const std::byte* codes, int column) {
  return (std::to_integer<unsigned>(codes[word_byte(column)]) >> column % 8 & 1u) != 0;
}
inline Vec add_where(LaneBits bit, Vec total, Vec x) { return bit ? total + x : total; }
#endif

inline void finish_prepared(const BlockFormat& /*format*/, float* /*prepared*/) {}

/// Columns of the sketches of up to kMostHeads queries.
struct SketchPart {
  const float* columns;  ///< of query h at h * stride
  std::ptrdiff_t stride;
  int count;
};

/// The sign bits of one part of the keys of a group that belong to a SketchPart, and the norms.
struct SignedKeys {
  const std::byte* codes;    ///< of the first key's first column
  std::int64_t words_bytes;  ///< of kQjlWordRows keys
  const std::byte* norms;
  float factor;
};

/// set_sums[h][r] = the sum of the sketch's columns whose bit is set in key r, for kTileSums / kHeads keys.
template <int kHeads>
inline void set_bits_tile(SketchPart sketch, const std::byte* codes, float* set_sums) {
  constexpr int kRows = kTileSums / kHeads;
  Vec sums[kTileSums];  // (kHeads, kRows)
  unroll<kTileSums>([&](auto s) { sums[s.value] = Vec(0.f); });
  for (int i = 0; i < sketch.count; i += kLanes) {
    Vec x[kHeads];
    unroll<kHeads>([&](auto h) { x[h.value] = load(sketch.columns + h.value * sketch.stride + i); });
    unroll<kRows>([&](auto r) {
      const LaneBits bits = lane_bits(codes + r.value * kQjlWordBytes, i);
      unroll<kHeads>([&](auto h) {
        Vec& sum = sums[h.value * kRows + r.value];
        sum = add_where(bits, sum, x[h.value]);
      });
    });
  }
  alignas(64) float totals[kTileSums];
  lane_sums(sums, totals);
  unroll<kHeads>([&](auto h) {
    std::memcpy(set_sums + h.value * kQjlGroupRows, totals + h.value * kRows, kRows * sizeof(float));
  });
}

/// Adds factor * norm * (sum of +-sketch by the bits) of each key of a group to scores (kHeads, kQjlGroupRows).
template <int kHeads>
void add_estimates(SketchPart sketch, SignedKeys keys, Upcoming& upcoming, float* scores) {
  alignas(64) float set_sums[kHeads * kQjlGroupRows];
  for (int r = 0; r < kQjlGroupRows; r += kTileSums / kHeads) {
    set_bits_tile<kHeads>(sketch, keys.codes + r / kQjlWordRows * keys.words_bytes + r % kQjlWordRows * kQjlWordBytes,
                          set_sums + r);
    upcoming.while_reading<kTileSums / kHeads * kSketchColumns / 8>(0);
  }
  for (int h = 0; h < kHeads; ++h) {
    Vec lanes(0.f);
    for (int i = 0; i < sketch.count; i += kLanes) lanes = lanes + load(sketch.columns + h * sketch.stride + i);
    const Vec total(sum(lanes)), factor(keys.factor);
    for (int r = 0; r < kQjlGroupRows; r += kLanes) {
      float* score = scores + h * kQjlGroupRows + r;
      const Vec set = load(set_sums + h * kQjlGroupRows + r);
      store(score, fma(load_scales(keys.norms + 2 * r) * factor, (set - total) + set, load(score)));
    }
  }
}

/// Scores (kHeads, kQjlGroupRows) of a group.
template <int kHeads>
void score_group(const BlockFormat& format, const SketchedKeys& keys, const float* prepared, Upcoming& upcoming,
                 float* scores) {
  const std::int64_t words_bytes = kQjlWordRows * format.k_stride;
  alignas(64) float inlier[kHeads * kSketchColumns], outlier[kHeads * kSketchColumns];
  for (int i = 0; i < kHeads * kQjlGroupRows; i += kLanes) store(scores + i, Vec(0.f));
  for (int column = 0; column < format.sketch_bits; column += kSketchColumns) {
    const int left = format.sketch_bits - column, outlier_left = format.outlier_bits - column;
    const int count = left < kSketchColumns ? left : kSketchColumns;
    SketchPart sketch{prepared + column, format.prepared_dim, count};
    if (format.outliers != 0) {
      sketch_outliers<kHeads>(format, keys.outlier_ids, prepared, column, count, outlier);
      for (int h = 0; h < kHeads; ++h) {
        for (int i = h * kSketchColumns; i < h * kSketchColumns + count; i += kLanes)
          store(inlier + i, load(sketch.columns + h * sketch.stride + i - h * kSketchColumns) - load(outlier + i));
      }
      sketch = {inlier, kSketchColumns, count};
    }
    add_estimates<kHeads>(sketch, {keys.codes + word_byte(column), words_bytes, keys.norms, keys.factor}, upcoming,
                          scores);
    if (outlier_left <= 0) continue;
    add_estimates<kHeads>(
        {outlier, kSketchColumns, outlier_left < count ? outlier_left : count},
        {keys.codes + word_byte(format.sketch_bits + column), words_bytes, keys.outlier_norms, keys.outlier_factor},
        upcoming, scores);
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
#endif
