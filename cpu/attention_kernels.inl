// Block-wise softmax attention; compiled per ISA by isa_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// From this many query vectors on, rows are decoded once into fp32 instead of anew for every four vectors.
constexpr int kDecodeFrom = 16;

/// K or V of a block as fp32 in kernel order.
struct DecodedPart {
  template <Element element>
  static DecodedPart of(Part part, int padded_dim, float* decoded) {
    DecodedPart result;
    for (int r = 0; r < part.count; ++r) {
      float* target = decoded + static_cast<std::ptrdiff_t>(r) * padded_dim;
      const std::byte* row = part.rows[r] + part.offset;
      int i = 0;
      for (; i + 2 * kLanes <= padded_dim; i += 2 * kLanes) {
        const Pair pair = load_pair<element>(row, i);
        store(target + i, pair.first);
        store(target + i + kLanes, pair.second);
      }
      if (i < padded_dim) store(target + i, load_elements<element>(row, i));
      result.rows[r] = reinterpret_cast<const std::byte*>(target);
    }
    result.count = part.count;
    return result;
  }
  [[nodiscard]] Part part() const { return {rows, count, 0}; }
  const std::byte* rows[kBlockRows];
  int count;
};

/// What the integers of each row's K or V are to be multiplied with: one number per row, so that scores and weights are
/// scaled instead of elements.
struct RowScales {
  RowScales() = default;
  RowScales(RowPointers rows, std::int64_t offset) {
    for (int r = 0; r < rows.count; ++r) std::memcpy(factors + r, rows.rows[r] + offset, sizeof(float));
  }
  void apply(float* values) const {
    for (int r = 0; r < kBlockRows; r += kLanes) store(values + r, load(values + r) * load(factors + r));
  }
  alignas(64) float factors[kBlockRows] = {};
};

/// Scores of rows of `element`, whose kernel order the queries get from `order`.
template <Element element, Element order>
void score_parts(const float* queries, int num_vectors, int padded_k, Part keys, Upcoming& upcoming, float* out) {
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    alignas(64) float ordered[kMostHeads * kMostPaddedDim];
    const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(v);
    for (int h = 0; h < heads.value; ++h)
      to_kernel_order<order>(queries + (first + h) * padded_k, padded_k,
                             ordered + static_cast<std::ptrdiff_t>(h) * padded_k);
    dot_rows<element, decltype(heads)::value>(ordered, padded_k, keys, upcoming, out + first * kBlockRows);
  });
}

template <Element element>
void scores(const float* queries, int num_vectors, int padded_k, RowPointers rows, float* decoded, float* out) {
  const Part keys{rows.rows, rows.count, 0};
  Upcoming upcoming(rows);
  if (element != Element::f32 && num_vectors >= kDecodeFrom) {
    const auto copy = DecodedPart::of<element>(keys, padded_k, decoded);
    score_parts<Element::f32, element>(queries, num_vectors, padded_k, copy.part(), upcoming, out);
  } else {
    score_parts<element, element>(queries, num_vectors, padded_k, keys, upcoming, out);
  }
  if constexpr (is_scaled(element)) {
    const RowScales scales(rows, padded_k);
    for (int v = 0; v < num_vectors; ++v) scales.apply(out + static_cast<std::ptrdiff_t>(v) * kBlockRows);
  }
  for (int v = 0; v < num_vectors; ++v) {
    for (int r = rows.count; r < kBlockRows; ++r) out[static_cast<std::ptrdiff_t>(v) * kBlockRows + r] = -kInfinity;
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
void square_norms(Part values, int padded_v, float* squares) {
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
void add_spread(const float* a, RowLogWeights log_weights, int num_vectors, Part values, const RowScales* scales,
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
void add_values(const float* a, RowLogWeights log_weights, int num_vectors, Part values, const RowScales* scales,
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
                RowPointers rows, float* decoded, SoftmaxState state) {
  const Part values{rows.rows, rows.count, v_offset};
  Upcoming upcoming(rows);
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

void inclusion_log_weights(const float* inclusion, int count, float* weights) {
  for (int r = 0; r < count; r += kLanes) {
    const Vec pi = load(inclusion + r);
    store(weights + r, select_lt(pi, Vec(1.f), Vec(0.f) - log(pi), Vec(0.f)));
  }
}

void softcap(float* scores, std::int64_t count, float cap) {
  const Vec inverse(1.f / cap);
  for (std::int64_t i = 0; i < count; i += kLanes) store(scores + i, tanh(load(scores + i) * inverse) * Vec(cap));
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
