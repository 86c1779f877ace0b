// QJL: queries times keys of which the signs of a projection are stored (see cpu/codec/qjl.h); compiled per ISA by
// codec_kernels.cpp; no include guard.
//
// A prepared query is what score_group() makes of its sketch S^T q, kQjlPreparedFloats for each column, and with
// outlier channels q itself.
namespace tandem::cpu::TANDEM_ISA {
namespace {

void prepare_qjl(const BlockFormat& format, const float* queries, int num_vectors, float* prepared) noexcept {
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    const float* from = queries + static_cast<std::ptrdiff_t>(v) * format.padded_k;
    float* to = prepared + static_cast<std::ptrdiff_t>(v) * format.prepared_dim;
    for (int column = 0; column < format.sketch_bits; column += kSketchVecs * kLanes)
      sketch_tile<decltype(heads)::value>(format, from, column, to);
    for (int h = 0; h < heads.value; ++h) {
      float* of_query = to + static_cast<std::ptrdiff_t>(h) * format.prepared_dim;
      finish_prepared(format, of_query);
      if (format.outliers == 0) continue;
      std::memcpy(of_query + query_in_prepared(format), from + static_cast<std::ptrdiff_t>(h) * format.padded_k,
                  format.padded_k * sizeof(float));
    }
  });
}

void scores_qjl(const BlockFormat& format, const CodedRows& rows, const float* prepared, int num_vectors,
                float* /*decoded*/, float* scores) noexcept {
  Upcoming upcoming = upcoming_of(rows);
  hide_rest(rows.count, num_vectors, scores);
  const int end = rows.first + rows.count;
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    constexpr int kHeads = decltype(heads)::value;
    for (int group = rows.first / kQjlGroupRows; group * kQjlGroupRows < end; ++group) {
      alignas(64) float of_group[kHeads * kQjlGroupRows];
      score_group<kHeads>(format, SketchedKeys(format, rows.block, group),
                          prepared + static_cast<std::ptrdiff_t>(v) * format.prepared_dim, upcoming, of_group);
      const int group_first = group * kQjlGroupRows, group_end = group_first + kQjlGroupRows;
      const int from = rows.first > group_first ? rows.first : group_first, to = end < group_end ? end : group_end;
      for (int h = 0; h < kHeads; ++h)
        std::memcpy(scores + static_cast<std::ptrdiff_t>(v + h) * kBlockRows + from - rows.first,
                    of_group + h * kQjlGroupRows + from - group_first, (to - from) * sizeof(float));
    }
  });
  upcoming.fetch_rest();
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
