// Products of a few query vectors with a few rows, all sums in registers; compiled per ISA; no include guard.
//
// A tile reads each row once for up to four vectors: the heads of a GQA group cost little more memory traffic than one.
// What a vector gets does not depend on the tile that it is in: every sum has one accumulator and one order.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kMostHeads = 4;

/// K or V of `count` rows.
struct Part {
  const std::byte* const* rows;
  int count;
  std::int64_t offset;  ///< in bytes, from each row's start
};

/// Asks memory for rows that are needed later: a line for each line that is read now, in the order of addresses. Asking
/// for several at once, or for one half of every row before the other, halves the bandwidth.
class Upcoming {
 public:
  explicit Upcoming(RowPointers rows) : rows_(rows.upcoming), left_(rows.num_upcoming), row_bytes_(rows.row_bytes) {
    if (left_ == 0) return;
    line_ = *rows_;
    end_ = line_ + row_bytes_;
  }
  /// Call number `step` of those that read kBytes each.
  template <int kBytes>
  void while_reading(int step) {
    if constexpr (kBytes >= 64) unroll<kBytes / 64>([&](auto) { fetch_line(); });
    if constexpr (kBytes < 64) {
      if (step % (64 / kBytes) == 0) fetch_line();
    }
  }
  void fetch_rest() {
    while (line_ != end_) fetch_line();
  }

 private:
  void fetch_line() {
    if (line_ == end_) return;
    __builtin_prefetch(line_, 0, 2);
    line_ += 64;
    if (line_ != end_ || --left_ == 0) return;
    line_ = *++rows_;
    end_ = line_ + row_bytes_;
  }
  const std::byte* const* rows_;
  int left_;
  std::int64_t row_bytes_;
  const std::byte* line_ = nullptr;
  const std::byte* end_ = nullptr;
};

/// out[v * kBlockRows + r] = <queries[v], rows[r]> for kHeads vectors (kernel order) and kTileSums / kHeads rows.
template <Element element, int kHeads>
inline void dot_tile(const float* queries, int padded_dim, const std::byte* const* rows, std::int64_t offset,
                     Upcoming& upcoming, float* out) {
  constexpr int kRows = kTileSums / kHeads;
  constexpr int kPairBytes = bytes_of(element, 2 * kLanes);
  constexpr int kApart = kPairBytes >= 64 ? kHeads : kTileSums;  // products between two requests for lines
  Vec sums[kTileSums];                                           // (kHeads, kRows)
  unroll<kTileSums>([&](auto s) { sums[s.value] = Vec(0.f); });
  int i = 0;
  for (; i + 2 * kLanes <= padded_dim; i += 2 * kLanes) {
    Pair row[kRows];
    unroll<kRows>([&](auto r) { row[r.value] = load_pair<element>(rows[r.value] + offset, i); });
    unroll<kHeads>([&](auto h) {
      const float* query = queries + static_cast<std::ptrdiff_t>(h.value) * padded_dim + i;
      const Vec first = load(query), second = load(query + kLanes);
      unroll<kRows>([&](auto r) {
        Vec& total = sums[h.value * kRows + r.value];
        total = fma(second, row[r.value].second, fma(first, row[r.value].first, total));
        if constexpr ((h.value * kRows + r.value) % kApart == 0)
          upcoming.while_reading<kPairBytes * kRows * kApart / kTileSums>(i / (2 * kLanes));
      });
    });
  }
  if (i < padded_dim) {
    unroll<kTileSums>([&](auto s) {
      const Vec query = load(queries + static_cast<std::ptrdiff_t>(s.value / kRows) * padded_dim + i);
      sums[s.value] = fma(query, load_elements<element>(rows[s.value % kRows] + offset, i), sums[s.value]);
    });
  }
  alignas(64) float totals[kTileSums];
  lane_sums(sums, totals);
  unroll<kHeads>([&](auto h) {
    std::memcpy(out + static_cast<std::ptrdiff_t>(h.value) * kBlockRows, totals + h.value * kRows,
                kRows * sizeof(float));
  });
}

/// dot_tile over all rows; what it writes beyond them is unspecified.
template <Element element, int kHeads>
void dot_rows(const float* queries, int padded_dim, Part keys, Upcoming& upcoming, float* out) {
  constexpr int kRows = kTileSums / kHeads;
  int r = 0;
  for (; r + kRows <= keys.count; r += kRows)
    dot_tile<element, kHeads>(queries, padded_dim, keys.rows + r, keys.offset, upcoming, out + r);
  if (r < keys.count) {
    const std::byte* last[kRows];
    for (int i = 0; i < kRows; ++i) last[i] = keys.rows[r + i < keys.count ? r + i : r];
    dot_tile<element, kHeads>(queries, padded_dim, last, keys.offset, upcoming, out + r);
  }
  upcoming.fetch_rest();
}

/// acc[v] += sum over rows of a[v][r] * values[r] for kHeads vectors and kPairs pairs of vectors from element i on.
template <Element element, int kHeads, int kPairs>
inline void add_tile(const float* a, Part values, int i, int padded_dim, Upcoming& upcoming, float* acc) {
  Vec sums[kHeads * kPairs * 2];
  unroll<kHeads * kPairs * 2>([&](auto s) {
    constexpr int kHead = decltype(s)::value / (2 * kPairs), kVec = decltype(s)::value % (2 * kPairs);
    sums[s.value] = load(acc + static_cast<std::ptrdiff_t>(kHead) * padded_dim + i + kVec * kLanes);
  });
  for (int r = 0; r < values.count; ++r) {
    const std::byte* value = values.rows[r] + values.offset;
    Vec weight[kHeads];
    unroll<kHeads>([&](auto h) { weight[h.value] = Vec(a[h.value * kBlockRows + r]); });
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
void add_rows(const float* a, Part values, int padded_dim, Upcoming& upcoming, float* acc) {
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

/// Calls body(Index<heads>, first) for tiles of 4, 2 and 1 that cover `num_vectors` vectors.
template <typename Body>
inline void for_head_tiles(int num_vectors, Body&& body) {
  int v = 0;
  for (; v + kMostHeads <= num_vectors; v += kMostHeads) body(Index<kMostHeads>{}, v);
  if (v + 2 <= num_vectors) {
    body(Index<2>{}, v);
    v += 2;
  }
  if (v < num_vectors) body(Index<1>{}, v);
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
