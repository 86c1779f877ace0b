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

/// Scale and minimum of one group of elements for the rows of a call; 0 beyond them.
struct GroupSide {
  GroupSide(const BlockFormat& format, const CodedRows& rows, int group) {
    const std::byte* side = rows.block + format.v_side + 2 * (2 * group * format.block_rows + rows.first);
    const std::size_t bytes = 2 * static_cast<std::size_t>(rows.count);
    alignas(64) std::byte scales[2 * kBlockRows] = {}, minima[2 * kBlockRows] = {};
    std::memcpy(scales, side, bytes);
    std::memcpy(minima, side + 2 * static_cast<std::ptrdiff_t>(format.block_rows), bytes);
    for (int r = 0; r < kBlockRows; r += kLanes) {
      store(scale + r, load_scales(scales + 2 * r));
      store(minimum + r, load_bf16(minima + 2 * r));
    }
  }
  alignas(64) float scale[kBlockRows];
  alignas(64) float minimum[kBlockRows];
};

/// folded (heads, groups, kBlockRows) = weights times scales; acc gets the sums of weights times minima.
template <int kHeads>
inline void fold_weights(const BlockFormat& format, const CodedRows& rows, const float* a, float* folded, float* acc) {
  const int groups = format.padded_v / format.group;
  for (int g = 0; g < groups; ++g) {
    const GroupSide side(format, rows, g);
    for (int h = 0; h < kHeads; ++h) {
      float* target = folded + static_cast<std::ptrdiff_t>(h * groups + g) * kBlockRows;
      Vec offset(0.f);
      for (int r = 0; r < kBlockRows; r += kLanes) {
        const Vec weight = load(a + h * kBlockRows + r);
        store(target + r, weight * load(side.scale + r));
        offset = fma(weight, load(side.minimum + r), offset);
      }
      const Vec added(sum(offset));
      float* elements = acc + static_cast<std::ptrdiff_t>(h) * format.padded_v + g * format.group;
      for (int i = 0; i < format.group; i += kLanes) store(elements + i, load(elements + i) + added);
    }
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
