// Scores of KIVI's keys (codec/kivi.h); compiled per ISA by codec_kernels.cpp; no include guard.
//
// Of a group of tokens, <q, k_t> = sum_c (q_c scale_c) code_tc + sum_c q_c min_c: channels' scales are folded into the
// queries once per group, and a token costs no more than its codes.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// folded (kHeads, code_dim) = queries (kHeads, padded_k) times the scales at `side`, bias[h] = <query, minima>.
template <int kHeads>
inline void fold_queries(const float* queries, int padded_k, int code_dim, const std::byte* side, float* folded,
                         float* bias) {
  Vec sums[kHeads];
  for (int h = 0; h < kHeads; ++h) sums[h] = Vec(0.f);
  for (int i = 0; i < padded_k; i += kLanes) {
    const Vec scale = load_scales(side + 2 * i), minimum = load_bf16(side + 2 * (padded_k + i));
    for (int h = 0; h < kHeads; ++h) {
      const Vec query = load(queries + static_cast<std::ptrdiff_t>(h) * padded_k + i);
      store(folded + static_cast<std::ptrdiff_t>(h) * code_dim + i, query * scale);
      sums[h] = fma(query, minimum, sums[h]);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    bias[h] = sum(sums[h]);
    for (int i = padded_k; i < code_dim; i += kLanes)
      store(folded + static_cast<std::ptrdiff_t>(h) * code_dim + i, Vec(0.f));
  }
}

template <int kBits>
void kivi_scores_of_bits(const BlockFormat& format, const CodedRows& rows, const float* queries, int num_vectors,
                         float* out) {
  Upcoming upcoming = upcoming_of(rows);
  const UniformCoding<kBits> coding;
  const int code_dim = static_cast<int>(format.k_stride) * 8 / kBits;
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    constexpr int kHeads = decltype(heads)::value;
    alignas(64) float folded[kHeads * kMostPaddedDim];
    float bias[kHeads];
    for (int done = 0; done < rows.count;) {
      const int row = rows.first + done, group = row / format.group;
      const int in_group = (group + 1) * format.group - row, left = rows.count - done;
      const int count = in_group < left ? in_group : left;
      fold_queries<kHeads>(queries + static_cast<std::ptrdiff_t>(v) * format.padded_k, format.padded_k, code_dim,
                           rows.block + format.k_side + static_cast<std::ptrdiff_t>(4) * group * format.padded_k,
                           folded, bias);
      dot_codes<kHeads>(folded, code_dim, bias, rows.block + format.k_codes + row * format.k_stride, format.k_stride,
                        count, coding, upcoming, out + static_cast<std::ptrdiff_t>(v) * kBlockRows + done);
      done += count;
    }
  });
  upcoming.fetch_rest();
  hide_rest(rows.count, num_vectors, out);
}

void kivi_scores(const BlockFormat& format, const CodedRows& rows, const float* queries, int num_vectors,
                 float* /*decoded*/, float* out) noexcept {
  if (format.bits == 2) {
    kivi_scores_of_bits<2>(format, rows, queries, num_vectors, out);
  } else {
    kivi_scores_of_bits<4>(format, rows, queries, num_vectors, out);
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
