// SimHash: sign bits of random projections and the probability of a collision; compiled per ISA; no include guard.
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
               std::uint64_t* bits) {
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
                           float offset, float inverse_scale, float* weights) {
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
