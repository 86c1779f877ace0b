// SimHash: sign bits of random projections, codes, and the probability of a collision; compiled per ISA; no include
// guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// kKeys vectors against kTile vectors of planes, all sums in registers; one bit per sum.
template <int kKeys, int kTile>
void sign_tile(const float* vectors, int padded_dim, const float* planes, int num_planes, int first_plane,
               std::uint64_t* bits) {
  Vec sums[kKeys][kTile];
  for (int k = 0; k < kKeys; ++k) {
    for (int t = 0; t < kTile; ++t) sums[k][t] = Vec(0.f);
  }
  for (int i = 0; i < padded_dim; ++i) {
    const float* row = planes + static_cast<std::ptrdiff_t>(i) * num_planes + first_plane;
    Vec plane[kTile];
    for (int t = 0; t < kTile; ++t) plane[t] = load(row + t * kLanes);
    for (int k = 0; k < kKeys; ++k) {
      const Vec x(vectors[static_cast<std::ptrdiff_t>(k) * padded_dim + i]);
      for (int t = 0; t < kTile; ++t) sums[k][t] = fma(x, plane[t], sums[k][t]);
    }
  }
  const int words = num_planes / 64;
  for (int k = 0; k < kKeys; ++k) {
    for (int t = 0; t < kTile; ++t) {
      const int plane = first_plane + t * kLanes;
      bits[static_cast<std::ptrdiff_t>(k) * words + plane / 64] |= static_cast<std::uint64_t>(positive_mask(sums[k][t]))
                                                                   << (plane % 64);
    }
  }
}

void sign_bits(const float* vectors, std::int64_t num_vectors, int padded_dim, const float* planes, int num_planes,
               std::uint64_t* bits) noexcept {
  constexpr int kKeys = 4;
  constexpr int kTile = kLanes == 16 ? 4 : 2;
  const int words = num_planes / 64;
  for (std::int64_t i = 0; i < num_vectors * words; ++i) bits[i] = 0;
  // Planes outside: one tile of planes stays in the first-level cache while all keys pass by.
  for (int plane = 0; plane < num_planes; plane += kTile * kLanes) {
    std::int64_t k = 0;
    for (; k + kKeys <= num_vectors; k += kKeys) {
      sign_tile<kKeys, kTile>(vectors + k * padded_dim, padded_dim, planes, num_planes, plane, bits + k * words);
    }
    for (; k < num_vectors; ++k) {
      sign_tile<1, kTile>(vectors + k * padded_dim, padded_dim, planes, num_planes, plane, bits + k * words);
    }
  }
}

/// One pass of butterflies over kLanes vectors side by side, element i of all of them at x + i * kLanes.
template <int kRadix>
void butterflies(float* x, int size, int distance) {
  const std::ptrdiff_t step = static_cast<std::ptrdiff_t>(distance) * kLanes;
  for (int begin = 0; begin < size; begin += kRadix * distance) {
    for (int i = begin; i < begin + distance; ++i) {
      float* p = x + static_cast<std::ptrdiff_t>(i) * kLanes;
      const Vec a = load(p), b = load(p + step);
      if constexpr (kRadix == 2) {
        store(p, a + b);
        store(p + step, a - b);
      } else {
        const Vec c = load(p + 2 * step), d = load(p + 3 * step);
        store(p, (a + b) + (c + d));
        store(p + step, (a - b) + (c - d));
        store(p + 2 * step, (a + b) - (c + d));
        store(p + 3 * step, (a - b) - (c - d));
      }
    }
  }
}

/// Walsh-Hadamard transform in place, unnormalised, of kLanes vectors side by side.
void walsh_hadamard(float* x, int size) {
  int distance = 1;
  for (; 4 * distance <= size; distance *= 4) butterflies<4>(x, size, distance);
  if (distance < size) butterflies<2>(x, size, distance);
}

void hadamard_bits(const float* vectors, int num_vectors, const HadamardRounds& rounds, float* work,
                   std::uint64_t* bits) noexcept {
  const int size = rounds.block;
  float* mixed = work;
  float* rotated = work + static_cast<std::ptrdiff_t>(size) * kLanes;
  for (int i = 0; i < rounds.num_blocks * size; ++i) bits[i] = 0;
  for (int first = 0; first < num_vectors; first += kLanes) {
    for (int i = 0; i < size * kLanes; ++i) mixed[i] = 0.f;
    for (int v = 0; v < kLanes && first + v < num_vectors; ++v) {
      const float* vector = vectors + static_cast<std::ptrdiff_t>(first + v) * rounds.padded_dim;
      for (int i = 0; i < rounds.padded_dim; ++i) mixed[i * kLanes + v] = vector[i] * rounds.signs[i];
    }
    walsh_hadamard(mixed, size);
    for (int b = 0; b < rounds.num_blocks; ++b) {
      const float* signs = rounds.signs + static_cast<std::ptrdiff_t>(b + 1) * size;
      for (int i = 0; i < size; ++i) store(rotated + i * kLanes, load(mixed + i * kLanes) * Vec(signs[i]));
      walsh_hadamard(rotated, size);
      std::uint64_t* word = bits + static_cast<std::ptrdiff_t>(b) * size;
      for (int i = 0; i < size; ++i) {
        word[i] |= static_cast<std::uint64_t>(positive_mask(load(rotated + i * kLanes))) << first;
      }
    }
  }
}

void sample_codes(const std::uint64_t* bits, int num_vectors, const std::uint16_t* sampled, int bits_per_table,
                  int num_tables, std::uint16_t* codes) noexcept {
  for (int t = 0; t < num_tables; ++t) {
    const std::uint16_t* of_table = sampled + static_cast<std::ptrdiff_t>(t) * bits_per_table;
    for (int first = 0; first < num_vectors; first += kCodeLanes) {
      Codes lanes = no_codes();
      for (int i = 0; i < bits_per_table; ++i) lanes = with_bit(lanes, bits[of_table[i]] >> first, i);
      store(codes + static_cast<std::ptrdiff_t>(t) * kCodeBlock + first, lanes);
    }
  }
}

void mark_equal_codes(const std::uint16_t* codes, const std::uint16_t* query_codes, int num_tables, CollisionMark mark,
                      std::uint8_t* marks) noexcept {
  std::uint16_t count[kCodeBlock] = {};  // a plain loop, which compilers turn into vectors of any instruction set
  for (int t = 0; t < num_tables; ++t) {
    const std::uint16_t* row = codes + static_cast<std::ptrdiff_t>(t) * kCodeBlock;
    const std::uint16_t query = query_codes[t];
    for (int v = 0; v < kCodeBlock; ++v) count[v] = static_cast<std::uint16_t>(count[v] + (row[v] == query ? 1 : 0));
  }
  for (int v = 0; v < kCodeBlock; ++v) {
    marks[v] |= static_cast<std::uint8_t>((count[v] >= 1 ? mark.once : 0) | (count[v] >= 2 ? mark.twice : 0));
  }
}

void find_marked(const std::uint8_t* marks, std::int64_t num_rows, std::uint8_t wanted, std::uint64_t* found) noexcept {
  for (std::int64_t r = 0; r < num_rows; r += kCodeBlock) found[r / kCodeBlock] |= any_bit_mask(marks + r, wanted);
}

inline Vec collision_probability(const CollisionWeight& weight, Vec cosine) {
  constexpr float kInversePi = 0.318309886183790672f;
  const Vec p = Vec(1.f) - acos(cosine) * Vec(kInversePi);
  Vec x = p;
  for (int i = 1; i < weight.bits_per_table; ++i) x = x * p;
  // Just below 1, so that log1p stays finite; u is 1 to the last bit there.
  x = min(max(x, Vec(0.f)), Vec(1.f - 1e-7f));
  const Vec direct =
      Vec(1.f) - exp_nonpositive(Vec(weight.power) * log1p(Vec(0.f) - x)) * fma(Vec(weight.slope), x, Vec(1.f));
  Vec series(weight.series[CollisionWeight::kTerms - 1]);
  for (int i = CollisionWeight::kTerms - 2; i >= 0; --i) series = fma(series, x, Vec(weight.series[i]));
  for (int i = 0; i < weight.leading_power; ++i) series = series * x;
  return select_lt(x, Vec(weight.series_below), series, direct);
}

void collision_log_weights(const CollisionWeight& weight, const float* scores, const float* inverse_norms, int count,
                           float offset, float inverse_scale, float* weights) noexcept {
  for (int r = 0; r < count; r += kLanes) {
    const Vec raw = (load(scores + r) - Vec(offset)) * load(inverse_norms + r) * Vec(inverse_scale);
    const Vec cosine = min(max(raw, Vec(-1.f)), Vec(1.f));
    // A key that shares buckets although u is below 1e-30 cannot be; the floor only keeps the logarithm finite.
    const Vec u = min(max(collision_probability(weight, cosine), Vec(1e-30f)), Vec(1.f));
    store(weights + r, Vec(0.f) - log(u));
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
