// The softmax of a block's scores, and values added up by its weights; compiled per ISA by value_kernels.cpp; no
// include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// acc[v] += sum over rows of a[v][r] * values[r] for kHeads vectors and kPairs pairs of vectors from element i on.
template <Element element, int kHeads, int kPairs>
inline void add_tile(const float* a, RowPart values, int i, int padded_dim, Upcoming& upcoming, float* acc) {
  Vec sums[kHeads * kPairs * 2];
  unroll<kHeads * kPairs * 2>([&](auto s) {
    constexpr int kHead = decltype(s)::value / (2 * kPairs), kVec = decltype(s)::value % (2 * kPairs);
    sums[s.value] = load(acc + static_cast<std::ptrdiff_t>(kHead) * padded_dim + i + kVec * kLanes);
  });
  for (int r = 0; r < values.count; ++r) {
    const std::byte* value = values.rows[r] + values.offset;
    Vec weight[kHeads];
    unroll<kHeads>([&](auto h) { weight[h.value] = broadcast(a + h.value * kBlockRows + r); });
    unroll<kPairs>([&](auto p) {
      const Pair pair = load_pair<element>(value, i + p.value * 2 * kLanes);
      unroll<kHeads>([&](auto h) {
        Vec* sum = sums + (h.value * kPairs + p.value) * 2;
        sum[0] = fma(weight[h.value], pair.first, sum[0]);
        sum[1] = fma(weight[h.value], pair.second, sum[1]);
      });
      upcoming.while_reading<bytes_of(element, 2 * kLanes)>(r * kPairs + p.value);
    });
  }
  unroll<kHeads * kPairs * 2>([&](auto s) {
    constexpr int kHead = decltype(s)::value / (2 * kPairs), kVec = decltype(s)::value % (2 * kPairs);
    store(acc + static_cast<std::ptrdiff_t>(kHead) * padded_dim + i + kVec * kLanes, sums[s.value]);
  });
}

/// The same for the whole of each row.
template <Element element, int kHeads>
void add_rows(const float* a, RowPart values, int padded_dim, Upcoming& upcoming, float* acc) {
  constexpr int kPairs = kTileSums / (2 * kHeads);  // 2, 4 or 8 with AVX-512, otherwise half of that
  int i = 0;
  for (; i + kPairs * 2 * kLanes <= padded_dim; i += kPairs * 2 * kLanes)
    add_tile<element, kHeads, kPairs>(a, values, i, padded_dim, upcoming, acc);
  for (; i + 2 * kLanes <= padded_dim; i += 2 * kLanes)
    add_tile<element, kHeads, 1>(a, values, i, padded_dim, upcoming, acc);
  upcoming.fetch_rest();
  if (i == padded_dim) return;
  for (int h = 0; h < kHeads; ++h) {
    float* target = acc + static_cast<std::ptrdiff_t>(h) * padded_dim + i;
    Vec sum = load(target);
    for (int r = 0; r < values.count; ++r)
      sum = fma(Vec(a[h * kBlockRows + r]), load_elements<element>(values.rows[r] + values.offset, i), sum);
    store(target, sum);
  }
}

inline void scale(float* values, int padded_dim, float factor) {
  for (int i = 0; i < padded_dim; i += kLanes) store(values + i, load(values + i) * Vec(factor));
}

/// Turns scores into a = e^(score - max) and rescales the state to the new maximum.
inline void exponentiate(float* scores, int padded_v, int v, SoftmaxState state) {
  Vec top(-kInfinity);
  for (int r = 0; r < kBlockRows; r += kLanes) top = max(top, load(scores + r));
  const float block_max = max_lane(top);
  if (block_max > state.max[v]) {
    const float shrink = exp_nonpositive(state.max[v] - block_max);
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(v) * padded_v;
    state.max[v] = block_max;
    state.sum[v] *= shrink;
    scale(state.acc + first, padded_v, shrink);
    if (state.spread_weight != nullptr) {
      state.spread_weight[v] *= shrink * shrink;
      state.spread_square[v] *= shrink * shrink;
      scale(state.spread_value + first, padded_v, shrink * shrink);
    }
  }
  // Nothing seen so far: any reference does, so that hidden rows get a weight of 0 and not NaN.
  const Vec reference(state.max[v] == -kInfinity ? 0.f : state.max[v]);
  Vec total(0.f);
  for (int r = 0; r < kBlockRows; r += kLanes) {
    const Vec a = exp_nonpositive(load(scores + r) - reference);
    store(scores + r, a);
    total = total + a;
  }
  state.sum[v] += sum(total);
}

/// |V|^2 of each row.
template <Element element>
void square_norms(RowPart values, int padded_v, float* squares) {
  for (int r = 0; r < values.count; ++r) {
    const std::byte* value = values.rows[r] + values.offset;
    Vec total(0.f);
    int i = 0;
    for (; i + 2 * kLanes <= padded_v; i += 2 * kLanes) {
      const Pair pair = load_pair<element>(value, i);
      total = fma(pair.second, pair.second, fma(pair.first, pair.first, total));
    }
    if (i < padded_v) {
      const Vec rest = load_elements<element>(value, i);
      total = fma(rest, rest, total);
    }
    squares[r] = sum(total);
  }
}

/// Adds b = (1 - pi) a^2 of each row, its share of the Horvitz-Thompson variance, to the spread.
template <Element element>
void add_spread(const float* a, RowLogWeights log_weights, int num_vectors, RowPart values, const RowScales* scales,
                int padded_v, Upcoming& upcoming, SoftmaxState state) {
  alignas(64) float squares[kBlockRows] = {};
  square_norms<element>(values, padded_v, squares);
  for (int times = 0; times < 2 && scales != nullptr; ++times) scales->apply(squares);
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    alignas(64) float b[kMostHeads * kBlockRows];
    for (int h = 0; h < heads.value; ++h) {
      const std::ptrdiff_t vector = static_cast<std::ptrdiff_t>(v) + h;
      const float* weights = log_weights.values + vector * log_weights.stride;
      Vec weight(0.f), square(0.f);
      for (int r = 0; r < kBlockRows; r += kLanes) {
        const Vec x = load(a + vector * kBlockRows + r);
        const Vec share = x * x * (Vec(1.f) - exp_nonpositive(Vec(0.f) - load(weights + r)));
        store(b + h * kBlockRows + r, share);
        weight = weight + share;
        square = fma(share, load(squares + r), square);
      }
      state.spread_weight[vector] += sum(weight);
      state.spread_square[vector] += static_cast<double>(sum(square));
      if (scales != nullptr) scales->apply(b + h * kBlockRows);
    }
    add_rows<element, decltype(heads)::value>(b, values, padded_v, upcoming,
                                              state.spread_value + static_cast<std::ptrdiff_t>(v) * padded_v);
  });
}

/// Adds a[v][r] V[r] over all rows and vectors, and the spread of weighted rows. `scales` may be nullptr.
template <Element element>
void add_values(const float* a, RowLogWeights log_weights, int num_vectors, RowPart values, const RowScales* scales,
                int padded_v, Upcoming& upcoming, SoftmaxState state) {
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(v);
    const float* weights = a + first * kBlockRows;
    alignas(64) float scaled[kMostHeads * kBlockRows];
    if (scales != nullptr) {
      std::memcpy(scaled, weights, heads.value * kBlockRows * sizeof(float));
      for (int h = 0; h < heads.value; ++h) scales->apply(scaled + h * kBlockRows);
      weights = scaled;
    }
    add_rows<element, decltype(heads)::value>(weights, values, padded_v, upcoming, state.acc + first * padded_v);
  });
  if (log_weights.values == nullptr) return;
  add_spread<element>(a, log_weights, num_vectors, values, scales, padded_v, upcoming, state);
}

template <Element element>
void accumulate(float* scores, RowLogWeights log_weights, int num_vectors, int padded_v, std::int64_t v_offset,
                RowPointers rows, float* decoded, SoftmaxState state) noexcept {
  const RowPart values{rows.rows, rows.count, v_offset};
  Upcoming upcoming(rows.upcoming);
  for (int v = 0; v < num_vectors; ++v)
    exponentiate(scores + static_cast<std::ptrdiff_t>(v) * kBlockRows, padded_v, v, state);
  const RowScales scales = is_scaled(element) ? RowScales(rows, v_offset - std::int64_t{sizeof(float)}) : RowScales();
  const RowScales* scaled = is_scaled(element) ? &scales : nullptr;
  if (element != Element::f32 && num_vectors >= kDecodeFrom) {
    const auto copy = DecodedPart::of<element>(values, padded_v, decoded);
    add_values<Element::f32>(scores, log_weights, num_vectors, copy.part(), scaled, padded_v, upcoming, state);
  } else {
    add_values<element>(scores, log_weights, num_vectors, values, scaled, padded_v, upcoming, state);
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
