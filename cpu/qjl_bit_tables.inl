// QJL with the permutations of AVX-512: tables of what four sign bits make of four columns of a sketch, looked up for
// 16 keys at a time; compiled per ISA by codec_kernels.cpp; no include guard.
//
// A prepared query begins with the tables of its sketch. Where outlier channels have a part of it, the tables of that
// part are made anew for each group of keys, and what is left are the inliers' tables: tables are linear in the sketch.
#if defined(__AVX512F__)
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kTableBits = 4;                    // a permutation reads the low 4 bits of each lane
constexpr int kWordColumns = 8 * kQjlWordBytes;  // of the keys' words

/// Lane b of signs[i] is 1 where bit i of b is set, otherwise -1.
struct BitSigns {
  BitSigns() {
    for (int i = 0; i < kTableBits; ++i) {
      alignas(64) float lanes[kLanes];
      for (int b = 0; b < kLanes; ++b) lanes[b] = (b >> i & 1) != 0 ? 1.f : -1.f;
      signs[i] = load(lanes);
    }
  }
  /// Lane b is the sum of x[i], i < kTableBits, with the sign that bit i of b has.
  [[nodiscard]] Vec table(const float* x) const {
    Vec sum = signs[0] * Vec(x[0]);
    unroll<kTableBits - 1>([&](auto i) { sum = fma(signs[i.value + 1], Vec(x[i.value + 1]), sum); });
    return sum;
  }
  Vec signs[kTableBits];
};

/// Turns a sketch into its tables, in place: from the last to the first, none covers columns that are still needed.
/// Inlined by force: GCC 12 takes this for a function without effects and drops the calls.
inline __attribute__((always_inline)) void finish_prepared(const BlockFormat& format, float* prepared) {
  const BitSigns signs;
  for (int column = format.sketch_bits - kTableBits; column >= 0; column -= kTableBits)
    store(prepared + column * kQjlPreparedFloats, signs.table(prepared + column));
}

/// Sums of signed columns for kHeads queries and the two halves of a group of keys.
template <int kHeads>
struct SignedSums {
  Vec sums[2 * kHeads];
};

/// Which keys' parts a range of columns has.
enum class Parts { all_in_one, inlier, both };

/// Adds columns [begin, end), whole words, to the sums of either part. `outlier` is the outlier channels' sketch from
/// `begin` on.
template <int kHeads, Parts parts>
inline void add_columns(const BlockFormat& format, const std::byte* codes, int begin, int end, const float* prepared,
                        const float* outlier, Upcoming& upcoming, SignedSums<kHeads>& inlier_sums,
                        SignedSums<kHeads>& outlier_sums) {
  const BitSigns signs;
  const std::int64_t half = kQjlWordRows * format.k_stride;
  const std::byte* outlier_codes = codes + format.sketch_bits / kWordColumns * kQjlWordRows * kQjlWordBytes;
  SignedSums<kHeads> inliers = inlier_sums, outliers = outlier_sums;
  for (int column = begin; column < end; column += kWordColumns) {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(column / kWordColumns) * kQjlWordRows * kQjlWordBytes;
    __m512i in[2], out[2];
    unroll<2>([&](auto i) { in[i.value] = _mm512_loadu_si512(codes + at + i.value * half); });
    if constexpr (parts == Parts::both)
      unroll<2>([&](auto i) { out[i.value] = _mm512_loadu_si512(outlier_codes + at + i.value * half); });
    for (int c = column; c < column + kWordColumns; c += kTableBits) {
      unroll<kHeads>([&](auto h) {
        Vec table = load(prepared + h.value * format.prepared_dim + c * kQjlPreparedFloats);
        if constexpr (parts != Parts::all_in_one) {
          const Vec of_outliers = signs.table(outlier + h.value * kSketchColumns + c - begin);
          table = table - of_outliers;
          if constexpr (parts == Parts::both) {
            unroll<2>([&](auto i) {
              Vec& sum = outliers.sums[2 * h.value + i.value];
              sum = sum + Vec(_mm512_permutexvar_ps(out[i.value], of_outliers));
            });
          }
        }
        unroll<2>([&](auto i) {
          Vec& sum = inliers.sums[2 * h.value + i.value];
          sum = sum + Vec(_mm512_permutexvar_ps(in[i.value], table));
        });
      });
      unroll<2>([&](auto i) { in[i.value] = _mm512_srli_epi32(in[i.value], kTableBits); });
      if constexpr (parts == Parts::both)
        unroll<2>([&](auto i) { out[i.value] = _mm512_srli_epi32(out[i.value], kTableBits); });
    }
    upcoming.while_reading<(parts == Parts::both ? 4 : 2) * kQjlWordRows * kQjlWordBytes>(0);
  }
  inlier_sums = inliers;
  outlier_sums = outliers;
}

/// Scores (kHeads, kQjlGroupRows) of a group.
template <int kHeads>
void score_group(const BlockFormat& format, const SketchedKeys& keys, const float* prepared, Upcoming& upcoming,
                 float* scores) {
  SignedSums<kHeads> inliers, outliers;
  unroll<2 * kHeads>([&](auto s) { inliers.sums[s.value] = outliers.sums[s.value] = Vec(0.f); });
  if (format.outliers == 0) {
    add_columns<kHeads, Parts::all_in_one>(format, keys.codes, 0, format.sketch_bits, prepared, nullptr, upcoming,
                                           inliers, outliers);
  }
  alignas(64) float outlier[kHeads * kSketchColumns];
  for (int column = 0; format.outliers != 0 && column < format.sketch_bits; column += kSketchColumns) {
    const int end = column + kSketchColumns < format.sketch_bits ? column + kSketchColumns : format.sketch_bits;
    const int both = end < format.outlier_bits ? end : column < format.outlier_bits ? format.outlier_bits : column;
    sketch_outliers<kHeads>(format, keys.outlier_ids, prepared, column, end - column, outlier);
    add_columns<kHeads, Parts::both>(format, keys.codes, column, both, prepared, outlier, upcoming, inliers, outliers);
    add_columns<kHeads, Parts::inlier>(format, keys.codes, both, end, prepared, outlier + both - column, upcoming,
                                       inliers, outliers);
  }
  for (int i = 0; i < 2; ++i) {
    const Vec norms = load_scales(keys.norms + 2 * kQjlWordRows * i) * Vec(keys.factor);
    Vec outlier_norms(0.f);
    if (format.outliers != 0)
      outlier_norms = load_scales(keys.outlier_norms + 2 * kQjlWordRows * i) * Vec(keys.outlier_factor);
    for (int h = 0; h < kHeads; ++h)
      store(scores + h * kQjlGroupRows + kQjlWordRows * i,
            fma(outlier_norms, outliers.sums[2 * h + i], norms * inliers.sums[2 * h + i]));
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
#endif
