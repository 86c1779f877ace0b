// Attention over blocks of codecs int8 and fp8 (codec/scaled_bytes.h): rows of bytes, whose scales go to scores and
// weights; compiled per ISA by codec_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// K or V of a block's rows, `stride` bytes apart.
struct BlockPart {
  BlockPart(const CodedRows& coded, std::int64_t codes, std::int64_t stride) : count(coded.count) {
    for (int r = 0; r < count; ++r) rows[r] = coded.block + codes + (coded.first + r) * stride;
  }
  [[nodiscard]] RowPart part() const { return {rows, count, 0}; }
  const std::byte* rows[kBlockRows];
  int count;
};

/// One fp32 scale per row, from `side` on, for elements as load_elements reads them.
template <Element element>
inline RowScales scales_of(const CodedRows& coded, std::int64_t side) {
  RowScales scales;
  std::memcpy(scales.factors, coded.block + side + coded.first * static_cast<std::int64_t>(sizeof(float)),
              static_cast<std::size_t>(coded.count) * sizeof(float));
  if constexpr (element == Element::fp8) scale(scales.factors, kBlockRows, 1.f / kFp8Unit);
  return scales;
}

template <Element element>
void scaled_byte_scores(const BlockFormat& format, const CodedRows& coded, const float* queries, int num_vectors,
                        float* decoded, float* out) noexcept {
  const BlockPart rows(coded, format.k_codes, format.k_stride);
  Upcoming upcoming = upcoming_of(coded);
  if (num_vectors >= kDecodeFrom) {
    const auto copy = DecodedPart::of<element>(rows.part(), format.padded_k, decoded);
    score_parts<Element::f32, element>(queries, num_vectors, format.padded_k, copy.part(), upcoming, out);
  } else {
    score_parts<element, element>(queries, num_vectors, format.padded_k, rows.part(), upcoming, out);
  }
  const RowScales scales = scales_of<element>(coded, format.k_side);
  for (int v = 0; v < num_vectors; ++v) scales.apply(out + static_cast<std::ptrdiff_t>(v) * kBlockRows);
  hide_rest(coded.count, num_vectors, out);
}

template <Element element>
void scaled_byte_accumulate(const BlockFormat& format, const CodedRows& coded, float* scores, int num_vectors,
                            float* decoded, SoftmaxState state) noexcept {
  const BlockPart rows(coded, format.v_codes, format.v_stride);
  Upcoming upcoming = upcoming_of(coded);
  for (int v = 0; v < num_vectors; ++v)
    exponentiate(scores + static_cast<std::ptrdiff_t>(v) * kBlockRows, format.padded_v, v, state);
  const RowScales scales = scales_of<element>(coded, format.v_side);
  if (num_vectors >= kDecodeFrom) {
    const auto copy = DecodedPart::of<element>(rows.part(), format.padded_v, decoded);
    add_values<Element::f32>(scores, {}, num_vectors, copy.part(), &scales, format.padded_v, upcoming, state);
  } else {
    add_values<element>(scores, {}, num_vectors, rows.part(), &scales, format.padded_v, upcoming, state);
  }
}

template <Element element>
constexpr BlockCodecKernels scaled_byte_kernels{nullptr, &scaled_byte_scores<element>,
                                                &scaled_byte_accumulate<element>};

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
