// The sketch index: estimates of logits from codes, by the tables of a query; compiled per ISA; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

void luts(const float* bit_weights, int code_bytes, std::uint8_t* tables, float* slope, float* intercept) {
  alignas(64) static constexpr float kSigns[4][16] = {
      {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
      {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
      {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
      {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1},
  };
  const int nibbles = 2 * code_bytes;
  float widest = 0.f;
  float total = 0.f;
  for (int n = 0; n < nibbles; ++n) {
    const float* w = bit_weights + n * 4;
    const float half_range = ::fabsf(w[0]) + ::fabsf(w[1]) + ::fabsf(w[2]) + ::fabsf(w[3]);
    widest = half_range > widest ? half_range : widest;
    total += half_range;
  }
  const bool usable = widest > 1e-30f && widest < 1e30f;  // else every row looks alike
  const float per_unit = usable ? kSketchLutMax / (2.f * widest) : 0.f;
  *slope = usable ? 1.f / per_unit : 0.f;
  *intercept = usable ? -total : 0.f;
  for (int n = 0; n < nibbles; ++n) {
    const float* w = bit_weights + n * 4;
    const float half_range = ::fabsf(w[0]) + ::fabsf(w[1]) + ::fabsf(w[2]) + ::fabsf(w[3]);
    alignas(64) float entries[16];
    for (int i = 0; i < 16; i += kLanes) {
      Vec value(usable ? half_range : 0.f);
      for (int j = 0; j < 4; ++j) value = fma(Vec(usable ? w[j] : 0.f), load(kSigns[j] + i), value);
      store(entries + i, max(value * Vec(per_unit), Vec(0.f)));
    }
    round_16_to_bytes(entries, tables + n * 16);
  }
}

// Sums of table entries, (kHeads, 64).
#if defined(__AVX2__)
/// Entries of four nibbles are added as bytes, then even and odd columns as 16-bit words: `all` holds even + 256 * odd
/// modulo 2^16, so that the even columns need no mask.
template <int kHeads>
void sum_entries(const std::uint8_t* tables, int code_bytes, const std::byte* block, std::uint16_t* sums) {
  const std::ptrdiff_t head_stride = std::ptrdiff_t{32} * code_bytes;
  for (int part = 0; part < kSketchBlockRows; part += kByteLanes) {
    Bytes all[kHeads];
    Bytes odd[kHeads];
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) all[h] = odd[h] = zero_bytes();
    const std::uint8_t* table = tables;
    for (int line = 0; line < code_bytes; line += 2, table += 64) {
      const Bytes first = load_bytes(block + line * 64 + part);
      const Bytes second = load_bytes(block + line * 64 + 64 + part);
      const Bytes n0 = low_nibbles(first), n1 = high_nibbles(first);
      const Bytes n2 = low_nibbles(second), n3 = high_nibbles(second);
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) {
        const std::uint8_t* t = table + h * head_stride;
        const Bytes entries =
            add_bytes(add_bytes(lookup(t, n0), lookup(t + 16, n1)), add_bytes(lookup(t + 32, n2), lookup(t + 48, n3)));
        all[h] = add_pairs(all[h], entries);
        odd[h] = add_pairs(odd[h], odd_bytes(entries));
      }
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      store_pairs(sums + h * kSketchBlockRows + part / 2, subtract_pairs(all[h], as_odd_bytes(odd[h])));
      store_pairs(sums + h * kSketchBlockRows + 32 + part / 2, odd[h]);
    }
  }
}
#else
template <int kHeads>
void sum_entries(const std::uint8_t* tables, int code_bytes, const std::byte* block, std::uint16_t* sums) {
  for (int h = 0; h < kHeads; ++h, tables += std::ptrdiff_t{32} * code_bytes, sums += kSketchBlockRows) {
    for (int t = 0; t < kSketchBlockRows; ++t) {
      const std::byte* column = block + SketchFormat::column_of(t);
      int total = 0;
      for (int j = 0; j < code_bytes; ++j) {
        const auto code = static_cast<unsigned>(column[j * 64]);
        total += tables[j * 32 + static_cast<int>(code & 15u)] + tables[j * 32 + 16 + static_cast<int>(code >> 4)];
      }
      sums[t] = static_cast<std::uint16_t>(total);
    }
  }
}
#endif

inline void sum_all_entries(const SketchQuery& query, const std::byte* block, std::uint16_t* sums) {
  const std::ptrdiff_t head_stride = std::ptrdiff_t{32} * query.code_bytes;
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

float estimates(const SketchQuery& query, const std::byte* block, float* out, std::int64_t stride) {
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

void logits(const SketchProposal& proposal, int head, std::int64_t first_row, float* values, int count) {
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

SketchMoments moments(const float* values, int count) {
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
