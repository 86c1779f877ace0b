// Weighted sums of V in groups (codec/value_groups.h), the V of KIVI and QJL; compiled per ISA by codec_kernels.cpp; no
// include guard.
//
// sum_t a_t (code_td scale_tg + min_tg) = sum_t (a_t scale_tg) code_td + sum_t a_t min_tg: a row costs no more than its
// codes, and the last sum is one number per group.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// Scales of uniform_group.h, kLanes of them.
#if defined(__AVX512F__)
inline Vec load_scales(const std::byte* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return Vec(_mm512_castsi512_ps(_mm512_slli_epi32(wide, 15)));
}
#elif defined(__AVX2__)
inline Vec load_scales(const std::byte* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return Vec(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 15)));
}
#else
inline Vec load_scales(const std::byte* p) {
  return Vec(std::bit_cast<float>(static_cast<std::uint32_t>(load_word(p)) << 15));
}
#endif

/// Where scales and minima of one group of elements lie for the kBlockRows rows of a call; 0 beyond those it has.
struct GroupSide {
  GroupSide(const BlockFormat& format, const CodedRows& rows, int group) {
    scales = rows.block + format.v_side + 2 * (2 * group * format.block_rows + rows.first);
    minima = scales + 2 * static_cast<std::ptrdiff_t>(format.block_rows);
    if (rows.count == kBlockRows) return;
    std::memset(copy, 0, sizeof(copy));
    std::memcpy(copy, scales, 2 * static_cast<std::size_t>(rows.count));
    std::memcpy(copy + sizeof(copy) / 2, minima, 2 * static_cast<std::size_t>(rows.count));
    scales = copy;
    minima = copy + sizeof(copy) / 2;
  }
  const std::byte* scales;
  const std::byte* minima;
  std::byte copy[4 * kBlockRows];
};

/// folded (heads, groups, kBlockRows) = weights times scales; acc gets the sums of weights times minima.
template <int kHeads>
inline void fold_weights(const BlockFormat& format, const CodedRows& rows, const float* a, float* folded, float* acc) {
  const int groups = format.padded_v / format.group;
  for (int g = 0; g < groups; ++g) {
    const GroupSide side(format, rows, g);
    Vec offsets[kHeads];
    unroll<kHeads>([&](auto h) { offsets[h.value] = Vec(0.f); });
    for (int r = 0; r < kBlockRows; r += kLanes) {
      const Vec scale = load_scales(side.scales + 2 * r), minimum = load_bf16(side.minima + 2 * r);
      unroll<kHeads>([&](auto h) {
        const Vec weight = load(a + h.value * kBlockRows + r);
        store(folded + static_cast<std::ptrdiff_t>(h.value * groups + g) * kBlockRows + r, weight * scale);
        offsets[h.value] = fma(weight, minimum, offsets[h.value]);
      });
    }
    unroll<kHeads>([&](auto h) {
      const Vec offset(sum(offsets[h.value]));
      float* elements = acc + static_cast<std::ptrdiff_t>(h.value) * format.padded_v + g * format.group;
      for (int i = 0; i < format.group; i += kLanes) store(elements + i, load(elements + i) + offset);
    });
  }
}

template <int kBits>
void add_value_groups(const BlockFormat& format, const CodedRows& rows, const float* a, int num_vectors, float* folded,
                      SoftmaxState state) {
  Upcoming upcoming = upcoming_of(rows);
  const UniformCoding<kBits> coding;
  const WeightedCodes codes{rows.block + format.v_codes + rows.first * format.v_stride,
                            format.v_stride,
                            rows.count,
                            folded,
                            kBlockRows,
                            format.group,
                            format.padded_v};
  for_head_tiles(num_vectors, [&](auto heads, int v) {
    float* acc = state.acc + static_cast<std::ptrdiff_t>(v) * format.padded_v;
    fold_weights<heads.value>(format, rows, a + static_cast<std::ptrdiff_t>(v) * kBlockRows, folded, acc);
    add_codes<heads.value>(codes, coding, upcoming, acc);
  });
  upcoming.fetch_rest();
}

void value_group_accumulate(const BlockFormat& format, const CodedRows& rows, float* scores, int num_vectors,
                            float* decoded, SoftmaxState state) noexcept {
  for (int v = 0; v < num_vectors; ++v)
    exponentiate(scores + static_cast<std::ptrdiff_t>(v) * kBlockRows, format.padded_v, v, state);
  if (format.bits == 2) {
    add_value_groups<2>(format, rows, scores, num_vectors, decoded, state);
  } else {
    add_value_groups<4>(format, rows, scores, num_vectors, decoded, state);
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
