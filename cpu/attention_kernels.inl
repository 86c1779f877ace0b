// Block-wise softmax attention; compiled per ISA by isa_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// Rows of K or V as fp32, so that every query vector of the group reads them from the first-level cache. Memory is
/// busy meanwhile: the same part of one upcoming row is asked for with each row.
template <DType dtype>
void decode(RowPointers rows, std::int64_t offset, int padded_dim, float* decoded) {
  const std::int64_t bytes = padded_dim * static_cast<std::int64_t>(bytes_of(dtype));
  for (int r = 0; r < rows.count; ++r) {
    if (r < rows.num_upcoming) {
      for (std::int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(rows.upcoming[r] + offset + line);
    }
    const std::byte* row = rows.rows[r] + offset;
    float* target = decoded + static_cast<std::ptrdiff_t>(r) * padded_dim;
    for (int i = 0; i < padded_dim; i += kLanes) store(target + i, load_row<dtype>(row, i));
  }
}

/// kLanes dot products at once: one accumulator per row, summed across lanes in one transpose-and-add.
template <std::size_t... kRow>
inline Vec dot_tile(const float* query, const float* rows, int padded_dim, std::index_sequence<kRow...>) {
  Vec acc[] = {(static_cast<void>(kRow), Vec(0.f))...};  // registers: an array filled by a loop would live in memory
  for (int i = 0; i < padded_dim; i += kLanes) {
    const Vec q = load(query + i);
    ((acc[kRow] = fma(q, load(rows + static_cast<std::ptrdiff_t>(kRow) * padded_dim + i), acc[kRow])), ...);
  }
  return sum_each(acc);
}

template <DType dtype>
void scores(const float* queries, int num_vectors, int padded_k, RowPointers rows, float* decoded, float* out) {
  decode<dtype>(rows, 0, padded_k, decoded);
  const int tiles =
      (rows.count + kLanes - 1) / kLanes;  // the last tile may read stale rows; they are overwritten below
  for (int v = 0; v < num_vectors; ++v) {
    float* row_scores = out + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    const float* query = queries + static_cast<std::ptrdiff_t>(v) * padded_k;
    for (int t = 0; t < tiles; ++t) {
      store(row_scores + t * kLanes, dot_tile(query, decoded + static_cast<std::ptrdiff_t>(t) * kLanes * padded_k,
                                              padded_k, std::make_index_sequence<kLanes>()));
    }
    for (int r = rows.count; r < kBlockRows; ++r) row_scores[r] = -kInfinity;
  }
}

inline void shrink_spread(float factor, int padded_v, int v, SoftmaxState state) {
  state.spread_weight[v] *= factor;
  state.spread_square[v] *= factor;
  float* value = state.spread_value + static_cast<std::ptrdiff_t>(v) * padded_v;
  for (int i = 0; i < padded_v; i += kLanes) store(value + i, load(value + i) * Vec(factor));
}

/// Turns scores into e^(score - max), rescales the state to the new maximum; false when nothing is left to add.
inline bool exponentiate(float* scores, int padded_v, int v, SoftmaxState state) {
  Vec top(-kInfinity);
  for (int r = 0; r < kBlockRows; r += kLanes) top = max(top, load(scores + r));
  const float block_max = max_lane(top);
  if (block_max == -kInfinity) return false;
  float* acc = state.acc + static_cast<std::ptrdiff_t>(v) * padded_v;
  if (block_max > state.max[v]) {
    const float shrink = exp_nonpositive(state.max[v] - block_max);
    state.max[v] = block_max;
    state.sum[v] *= shrink;
    for (int i = 0; i < padded_v; i += kLanes) store(acc + i, load(acc + i) * Vec(shrink));
    if (state.spread_weight != nullptr) shrink_spread(shrink * shrink, padded_v, v, state);
  }
  const Vec reference(state.max[v]);
  Vec total(0.f);
  for (int r = 0; r < kBlockRows; r += kLanes) {
    const Vec a = exp_nonpositive(load(scores + r) - reference);
    store(scores + r, a);
    total = total + a;
  }
  state.sum[v] += sum(total);
  return true;
}

/// acc += sum over rows of a[r] * V[r], with the accumulators in registers.
template <int kVectors>
void add_values(const float* a, const float* values, int count, int padded_v, float* acc) {
  Vec sums[kVectors];
  for (int i = 0; i < kVectors; ++i) sums[i] = load(acc + i * kLanes);
  for (int r = 0; r < count; ++r) {
    if (a[r] == 0.f) continue;  // a row that only other heads of the group selected, or one that underflowed
    const Vec weight(a[r]);
    const float* value = values + static_cast<std::ptrdiff_t>(r) * padded_v;
    for (int i = 0; i < kVectors; ++i) sums[i] = fma(weight, load(value + i * kLanes), sums[i]);
  }
  for (int i = 0; i < kVectors; ++i) store(acc + i * kLanes, sums[i]);
}

inline void add_all_values(const float* a, const float* values, int count, int padded_v, float* acc) {
  constexpr int kWide = 8;
  int i = 0;
  for (; i + kWide * kLanes <= padded_v; i += kWide * kLanes)
    add_values<kWide>(a, values + i, count, padded_v, acc + i);
  for (; i + 4 * kLanes <= padded_v; i += 4 * kLanes) add_values<4>(a, values + i, count, padded_v, acc + i);
  for (; i < padded_v; i += kLanes) add_values<1>(a, values + i, count, padded_v, acc + i);
}

/// |V|^2 of each row.
inline void square_norms(const float* values, int count, int padded_v, float* squares) {
  for (int r = 0; r < count; ++r) {
    const float* value = values + static_cast<std::ptrdiff_t>(r) * padded_v;
    Vec total(0.f);
    for (int i = 0; i < padded_v; i += kLanes) total = fma(load(value + i), load(value + i), total);
    squares[r] = sum(total);
  }
}

/// Adds b = (1 - pi) a^2 of each row, its share of the Horvitz-Thompson variance, to the spread.
void add_spread(const float* a, const float* log_weights, const float* values, const float* squares, int count,
                int padded_v, int v, SoftmaxState state) {
  alignas(64) float b[kBlockRows];
  Vec weight(0.f), square(0.f);
  for (int r = 0; r < kBlockRows; r += kLanes) {
    const Vec pi = exp_nonpositive(Vec(0.f) - load(log_weights + r));
    const Vec share = load(a + r) * load(a + r) * (Vec(1.f) - pi);
    store(b + r, share);
    weight = weight + share;
    square = fma(share, load(squares + r), square);
  }
  state.spread_weight[v] += sum(weight);
  state.spread_square[v] += static_cast<double>(sum(square));
  add_all_values(b, values, count, padded_v, state.spread_value + static_cast<std::ptrdiff_t>(v) * padded_v);
}

template <DType dtype>
void accumulate(float* scores, RowLogWeights log_weights, int num_vectors, int padded_v, std::int64_t v_offset,
                RowPointers rows, float* decoded, SoftmaxState state) {
  decode<dtype>(rows, v_offset, padded_v, decoded);
  alignas(64) float squares[kBlockRows] = {};
  if (log_weights.values != nullptr) square_norms(decoded, rows.count, padded_v, squares);
  for (int v = 0; v < num_vectors; ++v) {
    float* a = scores + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    if (!exponentiate(a, padded_v, v, state)) continue;
    add_all_values(a, decoded, rows.count, padded_v, state.acc + static_cast<std::ptrdiff_t>(v) * padded_v);
    if (log_weights.values == nullptr) continue;
    add_spread(a, log_weights.values + v * log_weights.stride, decoded, squares, rows.count, padded_v, v, state);
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
