// Scores: queries times the keys of a block; compiled per ISA by score_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

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
    const auto query_at = [&](int h) __attribute__((always_inline)) {
      const float* query = queries + static_cast<std::ptrdiff_t>(h) * padded_dim + i;
      return Pair{load(query), load(query + kLanes)};
    };
    // `step` counts the products of a tile.
    const auto add = [&](auto h, auto r, auto step, Pair query, Pair row) __attribute__((always_inline)) {
      Vec& total = sums[h.value * kRows + r.value];
      total = fma(query.second, row.second, fma(query.first, row.first, total));
      if constexpr (step.value % kApart == 0)
        upcoming.while_reading<kPairBytes * kRows * kApart / kTileSums>(i / (2 * kLanes));
    };
    // What there is less of stays in registers, rows or queries: there is no room for both.
    if constexpr (kHeads < kRows) {
      Pair query[kHeads];
      unroll<kHeads>([&](auto h) { query[h.value] = query_at(h.value); });
      unroll<kRows>([&](auto r) {
        const Pair row = load_pair<element>(rows[r.value] + offset, i);
        unroll<kHeads>([&](auto h) { add(h, r, Index<r.value * kHeads + h.value>{}, query[h.value], row); });
      });
    } else {
      Pair row[kRows];
      unroll<kRows>([&](auto r) { row[r.value] = load_pair<element>(rows[r.value] + offset, i); });
      unroll<kHeads>([&](auto h) {
        const Pair query = query_at(h.value);
        unroll<kRows>([&](auto r) { add(h, r, Index<h.value * kRows + r.value>{}, query, row[r.value]); });
      });
    }
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
void dot_rows(const float* queries, int padded_dim, RowPart keys, Upcoming& upcoming, float* out) {
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

/// Scores of rows of `element`, whose kernel order the queries get from `order`.
template <Element element, Element order>
void score_parts(const float* queries, int num_vectors, int padded_k, RowPart keys, Upcoming& upcoming, float* out) {
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
void scores(const float* queries, int num_vectors, int padded_k, RowPointers rows, float* decoded,
            float* out) noexcept {
  const RowPart keys{rows.rows, rows.count, 0};
  Upcoming upcoming(rows.upcoming);
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

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
