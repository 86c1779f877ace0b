// QJL: sketches of queries, and where a group of keys lies (see cpu/codec/qjl.h); compiled per ISA by
// codec_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kSketchColumns =
    256;  // of outlier channels' sketches that are used at a time: they stay in the nearest cache

/// kQjlGroupRows keys of a block.
struct SketchedKeys {
  SketchedKeys(const BlockFormat& format, const std::byte* block, int group)
      : codes(block + format.k_codes + group * kQjlGroupRows * format.k_stride),
        norms(block + format.k_side + group * kQjlGroupRows * static_cast<std::int64_t>(sizeof(std::uint16_t))),
        outlier_norms(norms + kQjlNormBytes),
        outlier_ids(block + format.k_side + 2 * kQjlNormBytes + group * format.outliers),
        factor(format.k_factor),
        outlier_factor(format.k_factor * static_cast<float>(format.sketch_bits) /
                       static_cast<float>(format.outlier_bits)) {}
  const std::byte* codes;
  const std::byte *norms, *outlier_norms, *outlier_ids;
  float factor, outlier_factor;  ///< of a norm times a sum of signs
};

/// Where a prepared query has the query itself.
inline int query_in_prepared(const BlockFormat& format) { return kQjlPreparedFloats * format.sketch_bits; }

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

/// What the outlier channels add to columns [column, column + count) of the sketches of kHeads queries: outlier
/// (kHeads, kSketchColumns).
template <int kHeads>
void sketch_outliers(const BlockFormat& format, const std::byte* outlier_ids, const float* prepared, int column,
                     int count, float* outlier) {
  const float* queries = prepared + query_in_prepared(format);
  for (int i = 0; i < count; i += kLanes) {
    Vec sums[kHeads];
    unroll<kHeads>([&](auto h) { sums[h.value] = Vec(0.f); });
    for (int o = 0; o < format.outliers; ++o) {
      const int c = std::to_integer<int>(outlier_ids[o]);
      const Vec direction = load(format.projection + static_cast<std::ptrdiff_t>(c) * format.sketch_bits + column + i);
      unroll<kHeads>([&](auto h) {
        sums[h.value] = fma(Vec(queries[h.value * format.prepared_dim + c]), direction, sums[h.value]);
      });
    }
    unroll<kHeads>([&](auto h) { store(outlier + h.value * kSketchColumns + i, sums[h.value]); });
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
