// Attention over blocks of calibrated codes (cpu/codec/nuq.h); compiled per ISA by codec_kernels.cpp; no include guard.
//
// Keys are decoded with rows as lanes, so that the angles of 16 rows are one vector for a pair of channels, turned by
// their row's place among 16, and multiplied with the queries; these are turned back by the position of each 16 rows
// instead. Values are decoded with elements as lanes and never written.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kNuqGroups = kBlockRows / kNuqLanes;
constexpr int kMostPairs = kMostPaddedDim / 2;

inline std::uint32_t residual_word(const std::byte* residuals, std::ptrdiff_t i) {
  std::uint32_t word;
  std::memcpy(&word, residuals + i * 4, sizeof(word));
  return word;
}
inline float residual_value(std::uint32_t word) { return std::bit_cast<float>(word & ~kNuqPlaceMask); }

/// prepared[v] = the first elements of all pairs, then the second ones, (2, padded_pairs).
void prepare_nuq(const BlockFormat& format, const float* queries, int num_vectors, float* prepared) noexcept {
  const int pairs = format.prepared_dim / 2;
  std::memset(prepared, 0,
              static_cast<std::size_t>(num_vectors) * static_cast<std::size_t>(format.prepared_dim) * sizeof(float));
  for (int v = 0; v < num_vectors; ++v) {
    const float* query = queries + static_cast<std::ptrdiff_t>(v) * format.padded_k;
    float* first = prepared + static_cast<std::ptrdiff_t>(v) * format.prepared_dim;
    for (int i = 0; i < format.padded_k / 2; ++i) {
      const auto elements = format.rope->elements(i);
      first[i] = query[elements.first];
      first[pairs + i] = query[elements.second];
    }
  }
}

/// keys (padded_k / 2, 2, kBlockRows) = all K of a block as it was before RoPE, in order of pairs.
template <int kBits>
void decode_nuq_keys(const BlockFormat& format, const std::byte* block, Upcoming& upcoming, float* keys) {
  constexpr int kUnitBytes = kNuqLanes * kBits;
  for (int i = 0; i < format.padded_k / 2; ++i) {
    const LevelTable<kBits> first(format.levels_k + static_cast<std::ptrdiff_t>(i) * 2 * kNuqLanes);
    const LevelTable<kBits> second(format.levels_k + static_cast<std::ptrdiff_t>(i) * 2 * kNuqLanes + kNuqLanes);
    const std::byte* unit = block + format.k_codes + static_cast<std::ptrdiff_t>(i) * kUnitBytes;
    float* rows = keys + static_cast<std::ptrdiff_t>(i) * 2 * kBlockRows;
    for (int lane = 0; lane < kNuqLanes; lane += kLanes) {
      for_unit_fields<kBits>(unit + lane, first, second,
                             [&](auto field, Vec x) { store(rows + field.value * kNuqLanes + lane, x); });
    }
    upcoming.while_reading<kUnitBytes>(i);
  }
  // Unused places hold a residual of 0, so that there is nothing to ask.
  const std::byte* residuals = block + format.k_side;
  for (int r = 0; r < kBlockRows; ++r) {
    for (int o = 0; o < format.outliers; ++o) {
      const std::uint32_t word = residual_word(residuals, static_cast<std::ptrdiff_t>(r) * format.outliers + o);
      keys[static_cast<std::ptrdiff_t>(word & kNuqPlaceMask) * kBlockRows + r] += residual_value(word);
    }
  }
}

/// turned (kNuqGroups, heads, 2, pairs) = `heads` prepared queries, turned back by the position of each 16 rows.
void turn_back_queries(const BlockFormat& format, const float* prepared, int heads, std::int64_t position,
                       float* turned) {
  const int pairs = format.prepared_dim / 2;
  alignas(64) float cosines[kMostPairs], sines[kMostPairs];
  format.rope->at(position, cosines, sines);
  for (int h = 0; h < heads; ++h) {
    const float* query = prepared + static_cast<std::ptrdiff_t>(h) * format.prepared_dim;
    for (int i = 0; i < pairs; i += kLanes) {
      const Vec first = load(query + i), second = load(query + pairs + i), c = load(cosines + i), s = load(sines + i);
      const Vec a = fma(second, s, first * c), b = minus_product(first, s, second * c);
      for (int g = 0; g < kNuqGroups; ++g) {
        const float* group = format.rope->groups() + static_cast<std::ptrdiff_t>(g) * 2 * pairs + i;
        const Vec gc = load(group), gs = load(group + pairs);
        float* target = turned + (static_cast<std::ptrdiff_t>(g) * heads + h) * 2 * pairs + i;
        store(target, fma(b, gs, a * gc));
        store(target + pairs, minus_product(a, gs, b * gc));
      }
    }
  }
}

/// out[h * kBlockRows + r] = <queries[h], keys[r]> of rows [row, row + kVecs * kLanes).
template <int kHeads, int kVecs>
inline void nuq_score_tile(const BlockFormat& format, const float* turned, const float* keys, int row, float* out) {
  const std::ptrdiff_t pairs = format.prepared_dim / 2;
  Vec sums[kHeads * kVecs];
  unroll<kHeads * kVecs>([&](auto s) { sums[s.value] = Vec(0.f); });
  const float* lanes = format.rope->lanes();
  for (int i = 0; i < format.padded_k / 2; ++i, lanes += 2 * kNuqLanes, keys += 2 * kBlockRows) {
    unroll<kVecs>([&](auto j) {
      const int at = row + j.value * kLanes;
      const Vec c = load(lanes + at % kNuqLanes), s = load(lanes + kNuqLanes + at % kNuqLanes);
      const Vec a = load(keys + at), b = load(keys + kBlockRows + at);
      const Vec first = minus_product(b, s, a * c), second = fma(a, s, b * c);
      unroll<kHeads>([&](auto h) {
        const float* query = turned + (at / kNuqLanes * kHeads + h.value) * 2 * pairs + i;
        Vec& total = sums[h.value * kVecs + j.value];
        total = fma(Vec(query[0]), first, fma(Vec(query[pairs]), second, total));
      });
    });
  }
  unroll<kHeads * kVecs>(
      [&](auto s) { store(out + s.value / kVecs * kBlockRows + row + s.value % kVecs * kLanes, sums[s.value]); });
}

template <int kBits>
void score_nuq_rows(const BlockFormat& format, const CodedRows& rows, const float* prepared, int num_vectors,
                    float* decoded, float* scores) {
  constexpr int kVecs = kLanes == kNuqLanes ? kNuqGroups : 2;
  Upcoming upcoming = upcoming_of(rows);
  decode_nuq_keys<kBits>(format, rows.block, upcoming, decoded);
  upcoming.fetch_rest();
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    alignas(64) float turned[kNuqGroups * kMostHeads * 2 * kMostPairs];
    const auto first = static_cast<std::ptrdiff_t>(v);
    turn_back_queries(format, prepared + first * format.prepared_dim, heads.value, rows.first_position, turned);
    for (int row = 0; row < kBlockRows; row += kVecs * kLanes)
      nuq_score_tile<decltype(heads)::value, kVecs>(format, turned, decoded, row, scores + first * kBlockRows);
  });
  for (int v = 0; v < num_vectors && rows.first > 0; ++v) {  // blocks are computed whole
    float* of_block = scores + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    std::memmove(of_block, of_block + rows.first, static_cast<std::size_t>(rows.count) * sizeof(float));
  }
  hide_rest(rows.count, num_vectors, scores);
}

void scores_nuq(const BlockFormat& format, const CodedRows& rows, const float* prepared, int num_vectors,
                float* decoded, float* scores) noexcept {
  if (format.bits == 4) return score_nuq_rows<4>(format, rows, prepared, num_vectors, decoded, scores);
  if (format.bits == 3) return score_nuq_rows<3>(format, rows, prepared, num_vectors, decoded, scores);
  score_nuq_rows<2>(format, rows, prepared, num_vectors, decoded, scores);
}

/// acc[h][d] += sum over rows of weights[h][r] * level of the code, for kVecs vectors of elements from d on.
template <int kBits, int kHeads, int kVecs>
inline void add_nuq_tile(const std::byte* codes, const LevelTable<kBits>& levels, const float* weights, int d,
                         int padded_v, Upcoming& upcoming, float* acc) {
  constexpr int kUnitBytes = kNuqLanes * kBits;
  Vec sums[kHeads * kVecs];
  unroll<kHeads * kVecs>([&](auto s) {
    sums[s.value] = load(acc + static_cast<std::ptrdiff_t>(s.value / kVecs) * padded_v + d + s.value % kVecs * kLanes);
  });
  for (int octet = 0; octet < kBlockRows / kNuqFields; ++octet) {
    unroll<kVecs>([&](auto j) __attribute__((always_inline)) {
      const int at = d + j.value * kLanes;
      const std::ptrdiff_t unit = octet * (padded_v / kNuqLanes) + at / kNuqLanes;
      for_unit_fields<kBits>(
          codes + unit * kUnitBytes + at % kNuqLanes, levels,
          levels, [&](auto field, Vec x) __attribute__((always_inline)) {
            const float* weight = weights + octet * kNuqFields + field.value;
            unroll<kHeads>([&](auto h) __attribute__((always_inline)) {
              Vec& total = sums[h.value * kVecs + j.value];
              total = fma(Vec(weight[h.value * kBlockRows]), x, total);
            });
          });
      if constexpr (kLanes == kNuqLanes) upcoming.while_reading<kUnitBytes>(octet * kVecs + j.value);
    });
  }
  unroll<kHeads * kVecs>([&](auto s) {
    store(acc + static_cast<std::ptrdiff_t>(s.value / kVecs) * padded_v + d + s.value % kVecs * kLanes, sums[s.value]);
  });
}

/// acc[h] += sum over rows of a[h][r] V[r] for kHeads vectors.
template <int kBits, int kHeads>
void add_nuq_values(const BlockFormat& format, const std::byte* block, const float* a, Upcoming& upcoming, float* acc) {
  constexpr int kVecs = kTileSums / kHeads;
  const int padded_v = format.padded_v;
  const auto* scales = reinterpret_cast<const float*>(block + format.v_side);
  const float* offsets = scales + kBlockRows;
  const auto* residuals = reinterpret_cast<const std::byte*>(offsets + kBlockRows);
  alignas(64) float weights[kHeads * kBlockRows];
  for (int h = 0; h < kHeads; ++h) {
    Vec offset(0.f);
    for (int r = 0; r < kBlockRows; r += kLanes) {
      const Vec weight = load(a + h * kBlockRows + r);
      store(weights + h * kBlockRows + r, weight * load(scales + r));
      offset = fma(weight, load(offsets + r), offset);
    }
    float* target = acc + static_cast<std::ptrdiff_t>(h) * padded_v;
    const Vec total(sum(offset));  // of every element alike, those of the padding too, which nobody reads
    for (int d = 0; d < padded_v; d += kLanes) store(target + d, load(target + d) + total);
  }
  const LevelTable<kBits> levels(format.levels_v);
  const std::byte* codes = block + format.v_codes;
  int d = 0;
  for (; d + kVecs * kLanes <= padded_v; d += kVecs * kLanes)
    add_nuq_tile<kBits, kHeads, kVecs>(codes, levels, weights, d, padded_v, upcoming, acc);
  for (; d < padded_v; d += kLanes) add_nuq_tile<kBits, kHeads, 1>(codes, levels, weights, d, padded_v, upcoming, acc);
  for (int r = 0; r < kBlockRows; ++r) {
    for (int o = 0; o < format.outliers_v; ++o) {
      const std::uint32_t word = residual_word(residuals, static_cast<std::ptrdiff_t>(r) * format.outliers_v + o);
      float* target = acc + (word & kNuqPlaceMask);
      const float residual = residual_value(word);
      unroll<kHeads>([&](auto h) {
        target[static_cast<std::ptrdiff_t>(h.value) * padded_v] += a[h.value * kBlockRows + r] * residual;
      });
    }
  }
}

template <int kBits>
void accumulate_nuq_rows(const BlockFormat& format, const CodedRows& rows, float* scores, int num_vectors,
                         SoftmaxState state) {
  Upcoming upcoming = upcoming_of(rows);
  for (int v = 0; v < num_vectors; ++v)
    exponentiate(scores + static_cast<std::ptrdiff_t>(v) * kBlockRows, format.padded_v, v, state);
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    const auto first = static_cast<std::ptrdiff_t>(v);
    const float* a = scores + first * kBlockRows;
    alignas(64) float of_block[kMostHeads * kBlockRows];  // by row of the block
    if (rows.first > 0) {
      std::memset(of_block, 0, sizeof(of_block));
      for (int h = 0; h < heads.value; ++h) {
        std::memcpy(of_block + h * kBlockRows + rows.first, a + h * kBlockRows,
                    static_cast<std::size_t>(rows.count) * sizeof(float));
      }
      a = of_block;
    }
    add_nuq_values<kBits, decltype(heads)::value>(format, rows.block, a, upcoming, state.acc + first * format.padded_v);
  });
  upcoming.fetch_rest();
}

void accumulate_nuq(const BlockFormat& format, const CodedRows& rows, float* scores, int num_vectors, float*,
                    SoftmaxState state) noexcept {
  if (format.bits == 4) return accumulate_nuq_rows<4>(format, rows, scores, num_vectors, state);
  if (format.bits == 3) return accumulate_nuq_rows<3>(format, rows, scores, num_vectors, state);
  accumulate_nuq_rows<2>(format, rows, scores, num_vectors, state);
}

constexpr BlockCodecKernels nuq_kernels{&prepare_nuq, &scores_nuq, &accumulate_nuq};

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
