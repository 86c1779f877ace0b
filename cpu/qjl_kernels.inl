// QJL: queries times keys of which the signs of a projection are stored (see cpu/codec/qjl.h); compiled per ISA by
// codec_kernels.cpp; no include guard.
//
// A prepared query is its sketch S^T q, m floats, and with outlier channels q itself. A sum of +-x over sign bits is
// twice the sum where the bit is set less the sum of all: one masked addition for each vector of the sketch and key.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kSketchColumns = 256;  // of a sketch that are used at a time: four heads' fit into the nearest cache

#if defined(__AVX512F__)
/// The sign bits of kLanes columns of a key.
using LaneBits = __mmask16;
inline LaneBits lane_bits(const std::byte* codes, int column) {
  std::uint16_t bits;
  std::memcpy(&bits, codes + column / 8, sizeof(bits));
  return bits;
}
inline Vec add_where(LaneBits bits, Vec total, Vec x) { return Vec(_mm512_mask_add_ps(total, bits, total, x)); }
#elif defined(__AVX2__)
using LaneBits = __m256;
inline LaneBits lane_bits(const std::byte* codes, int column) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i byte = _mm256_set1_epi32(std::to_integer<int>(codes[column / 8]));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(byte, lanes), lanes));
}
inline Vec add_where(LaneBits bits, Vec total, Vec x) { return total + Vec(_mm256_and_ps(bits, x)); }
#else
using LaneBits = bool;
inline LaneBits lane_bits(const std::byte* codes, int column) {
  return (std::to_integer<unsigned>(codes[column / 8]) >> column % 8 & 1u) != 0;
}
inline Vec add_where(LaneBits bit, Vec total, Vec x) { return bit ? total + x : total; }
#endif

/// S^T q of kHeads queries for kSketchVecs vectors of columns.
constexpr int kSketchVecs = kTileSums / kMostHeads;
template <int kHeads>
inline void sketch_tile(const BlockFormat& format, const float* queries, int column, float* prepared) {
  Vec sums[kHeads * kSketchVecs];
  unroll<kHeads * kSketchVecs>([&](auto s) { sums[s.value] = Vec(0.f); });
  for (int c = 0; c < format.dim_k; ++c) {
    const float* direction = format.projection + static_cast<std::ptrdiff_t>(c) * format.sketch_bits + column;
    Vec part[kSketchVecs];
    unroll<kSketchVecs>([&](auto i) { part[i.value] = load(direction + i.value * kLanes); });
    unroll<kHeads>([&](auto h) {
      const Vec q(queries[h.value * format.padded_k + c]);
      unroll<kSketchVecs>([&](auto i) {
        Vec& sum = sums[h.value * kSketchVecs + i.value];
        sum = fma(q, part[i.value], sum);
      });
    });
  }
  unroll<kHeads * kSketchVecs>([&](auto s) {
    store(prepared + s.value / kSketchVecs * format.prepared_dim + column + s.value % kSketchVecs * kLanes,
          sums[s.value]);
  });
}

void prepare_qjl(const BlockFormat& format, const float* queries, int num_vectors, float* prepared) noexcept {
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    const float* from = queries + static_cast<std::ptrdiff_t>(v) * format.padded_k;
    float* to = prepared + static_cast<std::ptrdiff_t>(v) * format.prepared_dim;
    for (int column = 0; column < format.sketch_bits; column += kSketchVecs * kLanes)
      sketch_tile<decltype(heads)::value>(format, from, column, to);
    if (format.outliers == 0) return;
    for (int h = 0; h < heads.value; ++h)
      std::memcpy(to + static_cast<std::ptrdiff_t>(h) * format.prepared_dim + format.sketch_bits,
                  from + static_cast<std::ptrdiff_t>(h) * format.padded_k, format.padded_k * sizeof(float));
  });
}

/// Columns of the sketches of up to kMostHeads queries.
struct SketchPart {
  const float* columns;  ///< of query h at h * stride
  std::ptrdiff_t stride;
  int count;
};

/// The sign bits of one part of the keys of a group that belong to a SketchPart, and the norms.
struct SignedKeys {
  const std::byte* codes;
  std::int64_t stride;
  const std::byte* norms;
  float factor;
};

/// set_sums[h][r] = the sum of the sketch's columns whose bit is set in key r, for kTileSums / kHeads keys.
template <int kHeads>
inline void set_bits_tile(SketchPart sketch, const std::byte* codes, std::int64_t stride, float* set_sums) {
  constexpr int kRows = kTileSums / kHeads;
  Vec sums[kTileSums];  // (kHeads, kRows)
  unroll<kTileSums>([&](auto s) { sums[s.value] = Vec(0.f); });
  for (int i = 0; i < sketch.count; i += kLanes) {
    Vec x[kHeads];
    unroll<kHeads>([&](auto h) { x[h.value] = load(sketch.columns + h.value * sketch.stride + i); });
    unroll<kRows>([&](auto r) {
      const LaneBits bits = lane_bits(codes + r.value * stride, i);
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
    set_bits_tile<kHeads>(sketch, keys.codes + r * keys.stride, keys.stride, set_sums + r);
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

/// Splits columns of the sketches of kHeads queries into what comes from the outlier channels and the rest.
template <int kHeads>
void split_sketch(const BlockFormat& format, const std::byte* outlier_ids, const float* prepared, int column, int count,
                  float* inlier, float* outlier) {
  for (int i = 0; i < count; i += kLanes) {
    Vec sums[kHeads];
    unroll<kHeads>([&](auto h) { sums[h.value] = Vec(0.f); });
    for (int o = 0; o < format.outliers; ++o) {
      const int c = std::to_integer<int>(outlier_ids[o]);
      const Vec direction = load(format.projection + static_cast<std::ptrdiff_t>(c) * format.sketch_bits + column + i);
      unroll<kHeads>([&](auto h) {
        sums[h.value] =
            fma(Vec(prepared[h.value * format.prepared_dim + format.sketch_bits + c]), direction, sums[h.value]);
      });
    }
    unroll<kHeads>([&](auto h) {
      store(outlier + h.value * kSketchColumns + i, sums[h.value]);
      store(inlier + h.value * kSketchColumns + i,
            load(prepared + h.value * format.prepared_dim + column + i) - sums[h.value]);
    });
  }
}

/// Scores (kHeads, kQjlGroupRows) of group `group` of a block.
template <int kHeads>
void score_group(const BlockFormat& format, const std::byte* block, int group, const float* prepared,
                 Upcoming& upcoming, float* scores) {
  const std::byte* codes = block + format.k_codes + group * kQjlGroupRows * format.k_stride;
  const std::byte* norms = block + format.k_side + group * kQjlGroupRows * sizeof(std::uint16_t);
  const std::byte* ids = block + format.k_side + 2 * kQjlNormBytes + group * format.outliers;
  alignas(64) float inlier[kHeads * kSketchColumns], outlier[kHeads * kSketchColumns];
  for (int i = 0; i < kHeads * kQjlGroupRows; i += kLanes) store(scores + i, Vec(0.f));
  for (int column = 0; column < format.sketch_bits; column += kSketchColumns) {
    const int left = format.sketch_bits - column, outlier_left = format.outlier_bits - column;
    const int count = left < kSketchColumns ? left : kSketchColumns;
    SketchPart sketch{prepared + column, format.prepared_dim, count};
    if (format.outliers != 0) {
      split_sketch<kHeads>(format, ids, prepared, column, count, inlier, outlier);
      sketch = {inlier, kSketchColumns, count};
    }
    add_estimates<kHeads>(sketch, {codes + column / 8, format.k_stride, norms, format.k_factor}, upcoming, scores);
    if (outlier_left <= 0) continue;
    const float factor =
        format.k_factor * static_cast<float>(format.sketch_bits) / static_cast<float>(format.outlier_bits);
    add_estimates<kHeads>({outlier, kSketchColumns, outlier_left < count ? outlier_left : count},
                          {codes + (format.sketch_bits + column) / 8, format.k_stride, norms + kQjlNormBytes, factor},
                          upcoming, scores);
  }
}

void scores_qjl(const BlockFormat& format, const CodedRows& rows, const float* prepared, int num_vectors,
                float* /*decoded*/, float* scores) noexcept {
  Upcoming upcoming = upcoming_of(rows);
  hide_rest(rows.count, num_vectors, scores);
  const int end = rows.first + rows.count;
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    constexpr int kHeads = decltype(heads)::value;
    for (int group = rows.first / kQjlGroupRows; group * kQjlGroupRows < end; ++group) {
      alignas(64) float of_group[kHeads * kQjlGroupRows];
      score_group<kHeads>(format, rows.block, group, prepared + static_cast<std::ptrdiff_t>(v) * format.prepared_dim,
                          upcoming, of_group);
      const int group_first = group * kQjlGroupRows, group_end = group_first + kQjlGroupRows;
      const int from = rows.first > group_first ? rows.first : group_first, to = end < group_end ? end : group_end;
      for (int h = 0; h < kHeads; ++h)
        std::memcpy(scores + static_cast<std::ptrdiff_t>(v + h) * kBlockRows + from - rows.first,
                    of_group + h * kQjlGroupRows + from - group_first, (to - from) * sizeof(float));
    }
  });
  upcoming.fetch_rest();
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
