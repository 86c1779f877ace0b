// Scores of KIVI's keys (codec/kivi.h); compiled per ISA by codec_kernels.cpp; no include guard.
//
// <q, k_t> = sum_c (q_c scale_cg) code_ct + sum_c q_c min_cg for a token t of group g: scales are folded into the
// queries once per group, and codes lie channel by channel, so that tokens are lanes and a score is never summed over
// them.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// folded (kHeads, groups, padded_k) = queries (kHeads, padded_k) times the scales at `side`, of consecutive groups of
/// `group` tokens; the scores (kHeads, kBlockRows) become the sums of queries times minima.
template <int kHeads>
inline void fold_queries(const float* queries, int padded_k, int groups, int group, const std::byte* side,
                         float* folded, float* scores) {
  for (int g = 0; g < groups; ++g, side += static_cast<std::ptrdiff_t>(4) * padded_k) {
    Vec bias[kHeads];
    unroll<kHeads>([&](auto h) { bias[h.value] = Vec(0.f); });
    for (int i = 0; i < padded_k; i += kLanes) {
      const Vec scale = load_scales(side + 2 * i), minimum = load_bf16(side + 2 * (padded_k + i));
      unroll<kHeads>([&](auto h) {
        const Vec query = load(queries + static_cast<std::ptrdiff_t>(h.value) * padded_k + i);
        store(folded + static_cast<std::ptrdiff_t>(h.value * groups + g) * padded_k + i, query * scale);
        bias[h.value] = fma(query, minimum, bias[h.value]);
      });
    }
    unroll<kHeads>([&](auto h) {
      const Vec all(sum(bias[h.value]));
      float* tokens = scores + h.value * kBlockRows + g * group;
      for (int t = 0; t < group; t += kLanes) store(tokens + t, all);
    });
  }
}

/// Scores of a whole slab; the rows wanted of it are moved to the front.
template <int kBits>
void kivi_scores_of_bits(const BlockFormat& format, const CodedRows& rows, const float* queries, int num_vectors,
                         float* folded, float* out) {
  Upcoming upcoming = upcoming_of(rows);
  const UniformCoding<kBits> coding;
  const int slab = rows.first / kBlockRows, skipped = rows.first % kBlockRows;
  const int group = format.group < kBlockRows ? format.group : kBlockRows;
  const std::int64_t slab_bytes = format.padded_k * format.k_stride;
  const std::byte* side = rows.block + format.k_side +
                          static_cast<std::ptrdiff_t>(4) * (slab * kBlockRows / format.group) * format.padded_k;
  const WeightedCodes codes{rows.block + format.k_codes + slab * slab_bytes,
                            format.k_stride,
                            format.padded_k,
                            folded,
                            format.padded_k,
                            group,
                            kBlockRows};
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    float* scores = out + static_cast<std::ptrdiff_t>(v) * kBlockRows;
    fold_queries<heads.value>(queries + static_cast<std::ptrdiff_t>(v) * format.padded_k, format.padded_k,
                              kBlockRows / group, group, side, folded, scores);
    add_codes<heads.value>(codes, coding, upcoming, scores);
    for (int h = 0; h < heads.value && skipped > 0; ++h)
      std::memmove(scores + h * kBlockRows, scores + h * kBlockRows + skipped,
                   static_cast<std::size_t>(rows.count) * sizeof(float));
  });
  upcoming.fetch_rest();
  hide_rest(rows.count, num_vectors, out);
}

void kivi_scores(const BlockFormat& format, const CodedRows& rows, const float* queries, int num_vectors,
                 float* decoded, float* out) noexcept {
  if (format.bits == 2) {
    kivi_scores_of_bits<2>(format, rows, queries, num_vectors, decoded, out);
  } else {
    kivi_scores_of_bits<4>(format, rows, queries, num_vectors, decoded, out);
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
