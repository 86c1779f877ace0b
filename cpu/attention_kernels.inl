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

/// Turns scores into e^(score - max), rescales the state to the new maximum; false when nothing is left to add.
inline bool exponentiate(float* scores, const float* log_weights, int padded_v, int v, SoftmaxState state) {
  Vec top(-kInfinity);
  for (int r = 0; r < kBlockRows; r += kLanes) top = max(top, load(scores + r));
  const float block_max = max_lane(top);
  if (block_max == -kInfinity) return false;
  float* acc = state.acc + static_cast<std::ptrdiff_t>(v) * padded_v;
  if (block_max > state.max[v]) {
    const float shrink = exp_nonpositive(state.max[v] - block_max);
    state.max[v] = block_max;
    state.sum[v] *= shrink;
    state.variance[v] *= shrink * shrink;
    for (int i = 0; i < padded_v; i += kLanes) store(acc + i, load(acc + i) * Vec(shrink));
  }
  const Vec reference(state.max[v]);
  Vec total(0.f);
  Vec variance(0.f);
  for (int r = 0; r < kBlockRows; r += kLanes) {
    const Vec a = exp_nonpositive(load(scores + r) - reference);
    store(scores + r, a);
    total = total + a;
    if (log_weights != nullptr) {  // a = w / pi, so (1 - pi) a^2 is this row's share of the Horvitz-Thompson variance
      const Vec pi = exp_nonpositive(Vec(0.f) - load(log_weights + r));
      variance = fma(a * a, Vec(1.f) - pi, variance);
    }
  }
  state.sum[v] += sum(total);
  state.variance[v] += sum(variance);
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

template <DType dtype>
void accumulate(float* scores, const float* log_weights, int num_vectors, int padded_v, std::int64_t v_offset,
                RowPointers rows, float* decoded, SoftmaxState state) {
  decode<dtype>(rows, v_offset, padded_v, decoded);
  for (int v = 0; v < num_vectors; ++v) {
    float* a = scores + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    const float* weights = log_weights == nullptr ? nullptr : log_weights + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    if (!exponentiate(a, weights, padded_v, v, state)) continue;
    add_all_values(a, decoded, rows.count, padded_v, state.acc + static_cast<std::ptrdiff_t>(v) * padded_v);
  }
}

void softcap(float* scores, std::int64_t count, float cap) {
  const Vec inverse(1.f / cap);
  for (std::int64_t i = 0; i < count; i += kLanes) store(scores + i, tanh(load(scores + i) * inverse) * Vec(cap));
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
