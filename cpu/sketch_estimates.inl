// The sketch index: estimates of logits from codes, by the tables of a query; compiled per ISA; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

inline void sum_all_entries(const SketchQuery& query, const std::byte* block, std::uint16_t* sums) {
  const std::ptrdiff_t head_stride = lut_bytes(query.code_bytes);
  int h = 0;
  for (; h + 4 <= query.group_size; h += 4) {
    sum_entries<4>(query.luts + h * head_stride, query.code_bytes, block, sums + h * kSketchBlockRows);
  }
  for (; h + 2 <= query.group_size; h += 2) {
    sum_entries<2>(query.luts + h * head_stride, query.code_bytes, block, sums + h * kSketchBlockRows);
  }
  for (; h < query.group_size; ++h) {
    sum_entries<1>(query.luts + h * head_stride, query.code_bytes, block, sums + h * kSketchBlockRows);
  }
}

/// values = factor * (slope * sum + intercept).
inline void scale_sums(const std::uint16_t* sums, const std::byte* factors, float slope, float intercept,
                       float* values) {
  for (int t = 0; t < kSketchBlockRows; t += kLanes) {
    const Vec scaled = fma(Vec(slope), load_u16(sums + t), Vec(intercept));
    store(values + t, load_f16(factors + t * 2) * scaled);
  }
}

inline bool has_unusable_rows(const std::byte* factors) {
  std::uint64_t signs = 0;
  for (int i = 0; i < kSketchBlockRows * 2; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, factors + i, sizeof(word));
    signs |= word;
  }
  return (signs & 0x8000800080008000u) != 0;
}

/// A block's rows outside [begin, end), and those that must not be used.
inline void find_hidden(const std::byte* factors, std::int64_t begin, std::int64_t end, bool* hidden) {
  for (int t = 0; t < kSketchBlockRows; ++t) {
    std::uint16_t factor;
    std::memcpy(&factor, factors + t * 2, sizeof(factor));
    hidden[t] = t < begin || t >= end || (factor & 0x8000u) != 0;
  }
}

float estimates(const SketchQuery& query, const std::byte* block, float* out, std::int64_t stride) noexcept {
  alignas(64) std::uint16_t sums[kMaxGroupSize * kSketchBlockRows];
  const std::byte* factors = block + static_cast<std::ptrdiff_t>(query.code_bytes) * 64;
  sum_all_entries(query, block, sums);
  for (int h = 0; h < query.group_size; ++h) {
    scale_sums(sums + h * kSketchBlockRows, factors, query.slopes[h], query.intercepts[h], out + h * stride);
  }
  Vec squares(0.f);
  for (int t = 0; t < kSketchBlockRows; t += kLanes) {
    const Vec factor = load_f16(factors + t * 2);
    squares = fma(factor, factor, squares);
  }
  if (has_unusable_rows(factors)) {
    bool hidden[kSketchBlockRows];
    find_hidden(factors, 0, kSketchBlockRows, hidden);
    for (int h = 0; h < query.group_size; ++h) {
      for (int t = 0; t < kSketchBlockRows; ++t) {
        if (hidden[t]) out[h * stride + t] = -kInfinity;
      }
    }
  }
  return sum(squares);
}

void logits(const SketchProposal& proposal, int head, std::int64_t first_row, float* values, int count) noexcept {
  const Vec inverse_cap(proposal.softcap > 0.f ? 1.f / proposal.softcap : 0.f);
  for (int i = 0; i < count; i += kLanes) {
    const Vec estimate = load(values + i);
    Vec x = fma(Vec(proposal.shrinks[head]), estimate, Vec(proposal.offsets[head]));
    if (proposal.softcap > 0.f) x = tanh(x * inverse_cap) * Vec(proposal.softcap);
    if (proposal.alibi != nullptr) {
      alignas(64) float distances[kLanes];
      for (int t = 0; t < kLanes; ++t) distances[t] = static_cast<float>(first_row + i + t - proposal.alibi_origin);
      x = fma(Vec(proposal.alibi[head]), load(distances), x);
    }
    store(values + i, select_lt(estimate, Vec(-3e38f), Vec(-kInfinity), x));
  }
}

SketchMoments moments(const float* values, int count) noexcept {
  Vec total(0.f);
  Vec squares(0.f);
  Vec counted(0.f);
  Vec top(-kInfinity);
  for (int i = 0; i < count; i += kLanes) {
    const Vec x = load(values + i);
    const Vec finite = select_lt(x, Vec(-3e38f), Vec(0.f), x);
    total = total + finite;
    squares = fma(finite, finite, squares);
    counted = counted + select_lt(x, Vec(-3e38f), Vec(0.f), Vec(1.f));
    top = max(top, x);
  }
  return {sum(total), sum(squares), max_lane(top), static_cast<int>(sum(counted))};
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
