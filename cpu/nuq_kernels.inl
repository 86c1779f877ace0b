// Attention over blocks of calibrated codes (cpu/codec/nuq.h); compiled per ISA by codec_kernels.cpp; no include guard.
//
// Keys are decoded with rows as lanes, so that the angles of 16 rows are one vector for a pair of channels, turned by
// their row's place among 16, and multiplied with the queries; these are turned back by the position of each 16 rows
// instead. Values are decoded with elements as lanes and never written.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kNuqGroups = kBlockRows / kNuqLanes;
constexpr int kHalfGroups = kNuqGroups / 2;
constexpr int kHalfRows = kBlockRows / 2;
constexpr int kMostPairs = kMostPaddedDim / 2;
/// Floats between two queries turned back: a constant, so that one register addresses all, and no multiple of a large
/// power of two, so that they do not share sets of the cache.
constexpr std::ptrdiff_t kTurnedStride = kMostPairs + kNuqLanes;

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

/// keys (padded_k / 2, 2, kHalfRows) = K of one half of a block as it was before RoPE, in order of pairs.
template <int kBits, int kHalf>
void decode_nuq_keys(const BlockFormat& format, const std::byte* block, Upcoming& upcoming, float* keys) {
  constexpr int kUnitBytes = kNuqLanes * kBits;
  for (int i = 0; i < format.padded_k / 2; ++i) {
    const float* levels = format.levels_k + static_cast<std::ptrdiff_t>(i) * 2 * kNuqLevels;
    const LevelTable<kBits> first(levels), second(levels + kNuqLevels);
    const std::byte* unit = block + format.k_codes + static_cast<std::ptrdiff_t>(i) * kUnitBytes;
    float* rows = keys + static_cast<std::ptrdiff_t>(i) * 2 * kHalfRows;
    for (int lane = 0; lane < kNuqLanes; lane += kLanes) {
      for_unit_fields<kBits>(
          unit + lane, first, second, [&](auto field, Vec x) __attribute__((always_inline)) {
            constexpr int kChannel = decltype(field)::value / kNuqGroups, kGroup = decltype(field)::value % kNuqGroups;
            if constexpr (kGroup / kHalfGroups == kHalf)
              store(rows + kChannel * kHalfRows + kGroup % kHalfGroups * kNuqLanes + lane, x);
          });
    }
    upcoming.while_reading<kUnitBytes / 2>(i);
  }
  // Unused places hold a residual of 0, so that there is nothing to ask.
  const std::byte* residuals =
      block + format.k_side + static_cast<std::ptrdiff_t>(kHalf) * kHalfRows * format.outliers * 4;
  for (int r = 0; r < kHalfRows; ++r) {
    for (int o = 0; o < format.outliers; ++o) {
      const std::uint32_t word = residual_word(residuals, static_cast<std::ptrdiff_t>(r) * format.outliers + o);
      keys[static_cast<std::ptrdiff_t>(word & kNuqPlaceMask) * kHalfRows + r] += residual_value(word);
    }
  }
}

/// turned (kHalfGroups, heads, 2, kTurnedStride) = `heads` prepared queries, turned back by the position of each 16
/// rows from group `first_group` on; `angles` (2, kMostPairs) are those of the block's first row.
void turn_back_queries(const BlockFormat& format, const float* angles, const float* prepared, int heads,
                       int first_group, float* turned) {
  const int pairs = format.prepared_dim / 2;
  for (int h = 0; h < heads; ++h) {
    const float* query = prepared + static_cast<std::ptrdiff_t>(h) * format.prepared_dim;
    for (int i = 0; i < pairs; i += kLanes) {
      const Vec first = load(query + i), second = load(query + pairs + i);
      const Vec c = load(angles + i), s = load(angles + kMostPairs + i);
      const Vec a = fma(second, s, first * c), b = minus_product(first, s, second * c);
      for (int g = 0; g < kHalfGroups; ++g) {
        const float* group = format.rope->groups() + static_cast<std::ptrdiff_t>(first_group + g) * 2 * pairs + i;
        const Vec gc = load(group), gs = load(group + pairs);
        float* target = turned + (g * heads + h) * 2 * kTurnedStride + i;
        store(target, fma(b, gs, a * gc));
        store(target + kTurnedStride, minus_product(a, gs, b * gc));
      }
    }
  }
}

/// out[h * kBlockRows + r] = <queries[h], keys[r]> of rows [row, row + kVecs * kLanes) of a half.
template <int kHeads, int kVecs>
inline void nuq_score_tile(const BlockFormat& format, const float* turned, const float* keys, int row, float* out) {
  Vec sums[kHeads * kVecs];
  unroll<kHeads * kVecs>([&](auto s) { sums[s.value] = Vec(0.f); });
  const float* lanes = format.rope->lanes();
  for (int i = 0; i < format.padded_k / 2; ++i, lanes += 2 * kNuqLanes, keys += 2 * kHalfRows) {
    unroll<kVecs>([&](auto j) __attribute__((always_inline)) {
      const int at = row + j.value * kLanes;
      const Vec c = load(lanes + at % kNuqLanes), s = load(lanes + kNuqLanes + at % kNuqLanes);
      const Vec a = load(keys + at), b = load(keys + kHalfRows + at);
      const Vec first = minus_product(b, s, a * c), second = fma(a, s, b * c);
      unroll<kHeads>([&](auto h) __attribute__((always_inline)) {
        const float* query = turned + (at / kNuqLanes * kHeads + h.value) * 2 * kTurnedStride + i;
        Vec& total = sums[h.value * kVecs + j.value];
        total = fma(broadcast(query), first, fma(broadcast(query + kTurnedStride), second, total));
      });
    });
  }
  unroll<kHeads * kVecs>(
      [&](auto s) { store(out + s.value / kVecs * kBlockRows + row + s.value % kVecs * kLanes, sums[s.value]); });
}

/// Half a block at a time: what is decoded of it stays in the first cache.
template <int kBits, int kHalf>
void score_nuq_half(const BlockFormat& format, const std::byte* block, const float* angles, const float* prepared,
                    int num_vectors, Upcoming& upcoming, float* decoded, float* scores) {
  constexpr int kVecs = 2;
  decode_nuq_keys<kBits, kHalf>(format, block, upcoming, decoded);
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    alignas(64) float turned[kHalfGroups * kMostHeads * 2 * kTurnedStride];
    const auto first = static_cast<std::ptrdiff_t>(v);
    turn_back_queries(format, angles, prepared + first * format.prepared_dim, heads.value, kHalf * kHalfGroups, turned);
    float* out = scores + first * kBlockRows + kHalf * kHalfRows;
    for (int row = 0; row < kHalfRows; row += kVecs * kLanes)
      nuq_score_tile<decltype(heads)::value, kVecs>(format, turned, decoded, row, out);
  });
}

template <int kBits>
void score_nuq_rows(const BlockFormat& format, const CodedRows& rows, const float* prepared, int num_vectors,
                    float* decoded, float* scores) {
  Upcoming upcoming = upcoming_of(rows);
  alignas(64) float angles[2 * kMostPairs];
  format.rope->at(rows.first_position, angles, angles + kMostPairs);
  score_nuq_half<kBits, 0>(format, rows.block, angles, prepared, num_vectors, upcoming, decoded, scores);
  score_nuq_half<kBits, 1>(format, rows.block, angles, prepared, num_vectors, upcoming, decoded, scores);
  upcoming.fetch_rest();
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

/// acc[h][d] += sum over rows of weights[h][r] * level of the code, for the vector of elements from d on. Rows go to
/// two sums in turn, so that additions do not wait for each other.
template <int kBits, int kHeads>
inline void add_nuq_tile(const std::byte* codes, const LevelTable<kBits>& levels, const float* weights, int d,
                         int padded_v, Upcoming& upcoming, float* acc) {
  constexpr int kUnitBytes = kNuqLanes * kBits;
  constexpr int kSets = 2;
  Vec sums[kSets * kHeads];
  unroll<kSets * kHeads>([&](auto s) { sums[s.value] = Vec(0.f); });
  const std::byte* unit = codes + d / kNuqLanes * kUnitBytes + d % kNuqLanes;
  for (int octet = 0; octet < kBlockRows / kNuqFields; ++octet) {
    for_unit_fields<kBits>(
        unit, levels, levels, [&](auto field, Vec x) __attribute__((always_inline)) {
          unroll<kHeads>([&](auto h) __attribute__((always_inline)) {
            Vec& total = sums[field.value % kSets * kHeads + h.value];
            total = fma(broadcast(weights + h.value * kBlockRows + field.value), x, total);
          });
        });
    if constexpr (kLanes == kNuqLanes) upcoming.while_reading<kUnitBytes>(octet);
    unit += padded_v / kNuqLanes * kUnitBytes;
    weights += kNuqFields;
  }
  unroll<kHeads>([&](auto h) {
    float* target = acc + static_cast<std::ptrdiff_t>(h.value) * padded_v + d;
    store(target, load(target) + (sums[h.value] + sums[kHeads + h.value]));
  });
}

/// acc[h] += sum over rows of a[h][r] V[r] for kHeads vectors.
template <int kBits, int kHeads>
void add_nuq_values(const BlockFormat& format, const std::byte* block, const float* a, Upcoming& upcoming, float* acc) {
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
  for (int d = 0; d < padded_v; d += kLanes)
    add_nuq_tile<kBits, kHeads>(codes, levels, weights, d, padded_v, upcoming, acc);
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
