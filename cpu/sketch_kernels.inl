// The sketch index: encoding keys, and scanning codes by table lookups; compiled per ISA; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

// ---- integers, which xsimd 8.1 has no batch of that also covers `scalar` --------------------------------------------
#if defined(__AVX512F__)

using Words = __m512i;  // kLanes 32-bit integers
inline Words words(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
inline Words lane_numbers() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
inline Words add(Words a, Words b) { return _mm512_add_epi32(a, b); }
inline Words multiply(Words a, Words b) { return _mm512_mullo_epi32(a, b); }
template <int kBits>
inline Words xor_shifted(Words x) {
  return _mm512_xor_si512(x, _mm512_srli_epi32(x, kBits));
}
inline Vec upper_24_bits(Words x) { return Vec(_mm512_cvtepi32_ps(_mm512_srli_epi32(x, 8))); }
inline Vec from_bits_in(Vec x) { return Vec(_mm512_castsi512_ps(_mm512_cvtps_epi32(x))); }
inline Vec load_u16(const std::uint16_t* p) {
  return Vec(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)))));
}
inline void store_integers(std::uint32_t* p, Vec x) { _mm512_storeu_si512(p, _mm512_cvttps_epi32(x)); }
inline std::uint32_t bit_of_each(const std::uint32_t* p, int bit) {
  return _mm512_test_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(1 << bit));
}
inline void round_16_to_bytes(const float* x, std::uint8_t* out) {
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_load_ps(x))));
}

using Bytes = __m512i;  // kByteLanes columns of a line
constexpr int kByteLanes = 64;
inline Bytes zero_bytes() { return _mm512_setzero_si512(); }
inline Bytes load_bytes(const std::byte* p) { return _mm512_load_si512(p); }
inline Bytes low_nibbles(Bytes x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes x) { return low_nibbles(_mm512_srli_epi16(x, 4)); }
inline Bytes lookup(const std::uint8_t* table, Bytes index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), index);
}
inline Bytes add_bytes(Bytes a, Bytes b) { return _mm512_add_epi8(a, b); }
inline Bytes add_pairs(Bytes a, Bytes b) { return _mm512_add_epi16(a, b); }
inline Bytes subtract_pairs(Bytes a, Bytes b) { return _mm512_sub_epi16(a, b); }
inline Bytes odd_bytes(Bytes x) { return _mm512_srli_epi16(x, 8); }
inline Bytes as_odd_bytes(Bytes x) { return _mm512_slli_epi16(x, 8); }
inline void store_pairs(std::uint16_t* p, Bytes x) { _mm512_store_si512(p, x); }

#elif defined(__AVX2__)

using Words = __m256i;
inline Words words(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
inline Words lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
inline Words add(Words a, Words b) { return _mm256_add_epi32(a, b); }
inline Words multiply(Words a, Words b) { return _mm256_mullo_epi32(a, b); }
template <int kBits>
inline Words xor_shifted(Words x) {
  return _mm256_xor_si256(x, _mm256_srli_epi32(x, kBits));
}
inline Vec upper_24_bits(Words x) { return Vec(_mm256_cvtepi32_ps(_mm256_srli_epi32(x, 8))); }
inline Vec from_bits_in(Vec x) { return Vec(_mm256_castsi256_ps(_mm256_cvtps_epi32(x))); }
inline Vec load_u16(const std::uint16_t* p) {
  return Vec(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p)))));
}
inline void store_integers(std::uint32_t* p, Vec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvttps_epi32(x));
}
inline std::uint32_t bit_of_each(const std::uint32_t* p, int bit) {
  const __m256i x =
      _mm256_sll_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm_cvtsi32_si128(31 - bit));
  return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(x)));
}
inline void round_16_to_bytes(const float* x, std::uint8_t* out) {
  const __m256i a = _mm256_cvtps_epi32(_mm256_load_ps(x));
  const __m256i b = _mm256_cvtps_epi32(_mm256_load_ps(x + 8));
  const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(low, high));
}

using Bytes = __m256i;
constexpr int kByteLanes = 32;
inline Bytes zero_bytes() { return _mm256_setzero_si256(); }
inline Bytes load_bytes(const std::byte* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
inline Bytes low_nibbles(Bytes x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes x) { return low_nibbles(_mm256_srli_epi16(x, 4)); }
inline Bytes lookup(const std::uint8_t* table, Bytes index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table))),
                             index);
}
inline Bytes add_bytes(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
inline Bytes add_pairs(Bytes a, Bytes b) { return _mm256_add_epi16(a, b); }
inline Bytes subtract_pairs(Bytes a, Bytes b) { return _mm256_sub_epi16(a, b); }
inline Bytes odd_bytes(Bytes x) { return _mm256_srli_epi16(x, 8); }
inline Bytes as_odd_bytes(Bytes x) { return _mm256_slli_epi16(x, 8); }
inline void store_pairs(std::uint16_t* p, Bytes x) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), x); }

#else  // scalar

using Words = std::uint32_t;
inline Words words(std::uint32_t x) { return x; }
inline Words lane_numbers() { return 0; }
inline Words add(Words a, Words b) { return a + b; }
inline Words multiply(Words a, Words b) { return a * b; }
template <int kBits>
inline Words xor_shifted(Words x) {
  return x ^ (x >> kBits);
}
inline Vec upper_24_bits(Words x) { return Vec(static_cast<float>(x >> 8)); }
inline Vec from_bits_in(Vec x) { return Vec(std::bit_cast<float>(static_cast<std::uint32_t>(x.value))); }
inline Vec load_u16(const std::uint16_t* p) { return Vec(static_cast<float>(*p)); }
inline void store_integers(std::uint32_t* p, Vec x) { *p = static_cast<std::uint32_t>(x.value); }
inline std::uint32_t bit_of_each(const std::uint32_t* p, int bit) { return *p >> bit & 1u; }
inline void round_16_to_bytes(const float* x, std::uint8_t* out) {
  for (int i = 0; i < 16; ++i) out[i] = static_cast<std::uint8_t>(x[i] + 0.5f);
}

#endif

inline Vec floor(Vec x) {
#if defined(__AVX2__)
  return xsimd::floor(x);
#else
  return Vec(::floorf(x.value));
#endif
}

// ---- encoding -------------------------------------------------------------------------------------------------------
template <DType dtype>
void centre(const std::byte* const* rows, int count, int padded_dim, const float* mean, float* out) {
  for (int r = 0; r < count; ++r, out += padded_dim) {
    if constexpr (is_quantized(dtype)) {  // K in 8 bits; its scale follows it
      float scale;
      std::memcpy(&scale, rows[r] + padded_dim, sizeof(scale));
      for (int i = 0; i < padded_dim; i += kLanes) store(out + i, load_int8(rows[r] + i) * Vec(scale) - load(mean + i));
    } else {
      for (int i = 0; i < padded_dim; i += kLanes) store(out + i, load_row<dtype>(rows[r], i) - load(mean + i));
    }
  }
}

/// kVectors vectors against kTile vectors of planes, all sums in registers.
template <int kVectors, int kTile>
inline void project_tile(const float* vectors, int padded_dim, const float* planes, int num_planes, float* out) {
  Vec sums[kVectors][kTile];
  for (int v = 0; v < kVectors; ++v) {
    for (int t = 0; t < kTile; ++t) sums[v][t] = Vec(0.f);
  }
  for (int i = 0; i < padded_dim; ++i, planes += num_planes) {
    Vec plane[kTile];
    for (int t = 0; t < kTile; ++t) plane[t] = load(planes + t * kLanes);
    for (int v = 0; v < kVectors; ++v) {
      const Vec x(vectors[static_cast<std::ptrdiff_t>(v) * padded_dim + i]);
      for (int t = 0; t < kTile; ++t) sums[v][t] = fma(x, plane[t], sums[v][t]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int t = 0; t < kTile; ++t) store(out + static_cast<std::ptrdiff_t>(v) * num_planes + t * kLanes, sums[v][t]);
  }
}

template <int kTile>
void project_planes(const float* vectors, std::int64_t num_vectors, int padded_dim, const float* planes, int num_planes,
                    float* out) {
  std::int64_t v = 0;
  for (; v + 4 <= num_vectors; v += 4) {
    project_tile<4, kTile>(vectors + v * padded_dim, padded_dim, planes, num_planes, out + v * num_planes);
  }
  for (; v < num_vectors; ++v) {
    project_tile<1, kTile>(vectors + v * padded_dim, padded_dim, planes, num_planes, out + v * num_planes);
  }
}

void project(const float* vectors, std::int64_t num_vectors, int padded_dim, const float* planes, int num_planes,
             float* out) {
  constexpr int kTile = kLanes == 16 ? 4 : 2;
  int plane = 0;  // planes outside: a tile of them stays in the first-level cache while all vectors pass by
  for (; plane + kTile * kLanes <= num_planes; plane += kTile * kLanes) {
    project_planes<kTile>(vectors, num_vectors, padded_dim, planes + plane, num_planes, out + plane);
  }
  for (; plane < num_planes; plane += kLanes) {
    project_planes<1>(vectors, num_vectors, padded_dim, planes + plane, num_planes, out + plane);
  }
}

constexpr int kMaxCodeBits = 2 * kMaxHeadDim;

/// Writes levels 0 .. 2^bits - 1 of each coordinate; returns the factor of the estimate, 0 for a zero key.
inline float quantise(const SketchFormat& format, const float* z, std::uint32_t* levels) {
  Vec squares(0.f);
  for (int i = 0; i < format.padded_dims; i += kLanes) squares = fma(load(z + i), load(z + i), squares);
  const float square = sum(squares);
  const Vec inverse_norm(square > 0.f ? 1.f / ::sqrtf(square) : 0.f);
  Vec products(0.f);
  for (int i = 0; i < format.padded_dims; i += kLanes) {
    const Vec x = load(z + i);
    const Vec half_levels = load(format.levels.data() + i);
    const Vec level = floor(x * inverse_norm * load(format.inverse_steps.data() + i));
    const Vec clamped = min(max(level, Vec(0.f) - half_levels), half_levels - Vec(1.f));
    products = fma(x, load(format.steps.data() + i) * (clamped + Vec(0.5f)), products);
    store_integers(levels + i, max(clamped + half_levels, Vec(0.f)));  // padding has half_levels 0
  }
  const float product = sum(products);
  return product > 0.f ? square / product : 0.f;
}

/// The bits of a code, in the order that SketchFormat states.
inline void pack(const SketchFormat& format, const std::uint32_t* levels, std::uint8_t* code) {
  std::uint64_t pending = 0;
  int filled = 0;
  for (std::size_t g = 0; g < format.groups.size(); ++g) {
    const int dims = format.groups[g].dims;
    for (int plane = format.groups[g].bits - 1; plane >= 0; --plane) {
      for (int i = 0; i < dims; i += kLanes) {
        const int n = dims - i < kLanes ? dims - i : kLanes;
        const std::uint64_t bits = bit_of_each(levels + i, plane) & ((1u << n) - 1u);
        pending |= bits << filled;
        filled += n;
        if (filled < 32) continue;
        const auto word = static_cast<std::uint32_t>(pending);
        std::memcpy(code, &word, sizeof(word));
        code += sizeof(word);
        pending >>= 32;
        filled -= 32;
      }
    }
    levels += dims;
  }
}

void encode(const SketchFormat& format, const float* z, int count, std::byte* blocks, std::int64_t first_row) {
  alignas(64) std::uint32_t levels[kMaxHeadDim + 32 + kLanes] = {};
  std::uint8_t code[kMaxCodeBits / 8 + 32];
  const float inverse_scale = 1.f / format.factor_scale;
  for (int r = 0; r < count; ++r, z += format.padded_dims) {
    const std::int64_t row = first_row + r;
    std::byte* block = blocks + row / kSketchBlockRows * format.block_bytes();
    const auto t = static_cast<int>(row % kSketchBlockRows);
    const float factor = quantise(format, z, levels) * inverse_scale;
    pack(format, levels, code);
    for (int j = 0; j < format.code_bytes; ++j) block[j * 64 + SketchFormat::column_of(t)] = std::byte{code[j]};
    const std::uint16_t half = f32_to_f16(factor < 65504.f ? factor : 65504.f);
    std::memcpy(block + static_cast<std::ptrdiff_t>(format.code_bytes) * 64 + t * 2, &half, sizeof(half));
  }
}

// ---- the query's tables ---------------------------------------------------------------------------------------------
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

// ---- lookups: sums of table entries, (kHeads, 64) -------------------------------------------------------------------
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

// ---- weights: 2^x by writing x into the exponent bits of a float (Schraudolph 1999), within 3 %
// -----------------------
constexpr float kBitsPerNat = 8388608.f * 1.44269504088896341f;
constexpr float kOneBits = 127.f * 8388608.f - 366393.f;  // makes the mean error 0
constexpr float kMostBits = 227.f * 8388608.f;

/// From "bits" (kBitsPerNat * x + kOneBits) to e^x; 0 from 2^-127 down.
inline Vec weight_of(Vec bits) { return from_bits_in(min(max(bits, Vec(0.f)), Vec(kMostBits))); }

float weigh(float* values, int count, float temper, float reference) {
  Vec total(0.f);
  for (int i = 0; i < count; i += kLanes) {
    const Vec weight = weight_of(fma(load(values + i) - Vec(reference), Vec(temper * kBitsPerNat), Vec(kOneBits)));
    store(values + i, weight);
    total = total + weight;
  }
  return sum(total);
}

float expected_rows(const float* shares, int count, float rate, float floor_share) {
  Vec total(0.f);
  for (int i = 0; i < count; i += kLanes) {
    total = total + min(fma(Vec(rate), load(shares + i), Vec(floor_share)), Vec(1.f));
  }
  return sum(total);
}

// ---- scan -----------------------------------------------------------------------------------------------------------
/// Uniform numbers of kLanes consecutive rows; the same function as sketch_uniform().
inline Vec uniforms(std::uint64_t key, std::uint32_t first_row) {
  Words x = multiply(add(words(first_row), lane_numbers()), words(0x9e3779b1u));
  x = add(x, words(static_cast<std::uint32_t>(key)));
  x = multiply(xor_shifted<16>(x), words(0x7feb352du));
  x = add(xor_shifted<15>(x), words(static_cast<std::uint32_t>(key >> 32)));
  x = xor_shifted<16>(multiply(xor_shifted<13>(x), words(0x846ca68bu)));
  return fma(upper_24_bits(x), Vec(0x1p-24f), Vec(0x1p-25f));
}

/// What a scan keeps of the block in hand; (group_size, 64) and (64).
struct ScanBlock {
  alignas(64) std::uint16_t sums[kMaxGroupSize * kSketchBlockRows];
  alignas(64) float weights[kMaxGroupSize * kSketchBlockRows];
  alignas(64) float floors[kSketchBlockRows];
  alignas(64) float shares[kSketchBlockRows];
  alignas(64) float uniforms[kSketchBlockRows];
  alignas(64) float quiet[kSketchBlockRows];  // 1, but 0 for loud and hidden rows
  bool hidden[kSketchBlockRows];
};

/// The bits of the weights of head h (see weight_of) = factor * (slope * sum + intercept) + shift.
struct BitsOfHead {
  float slope, intercept, shift;
  float temper, tempered_shift, scale;
};

/// Untempered weights and shares, straight from the sums. `kTempered` is false when no head is tempered.
template <bool kTempered>
inline void weigh_block(const BitsOfHead* heads, int group_size, const std::byte* factors, ScanBlock& block) {
  constexpr int kVectors = kSketchBlockRows / kLanes;
  Vec factor[kVectors];
  Vec share[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    factor[i] = load_f16(factors + i * kLanes * 2);
    share[i] = Vec(0.f);
  }
  for (int h = 0; h < group_size; ++h) {
    const Vec slope(heads[h].slope), intercept(heads[h].intercept), shift(heads[h].shift), scale(heads[h].scale);
    const std::uint16_t* sums = block.sums + h * kSketchBlockRows;
    float* weights = block.weights + h * kSketchBlockRows;
    for (int i = 0; i < kVectors; ++i) {
      const Vec bits = fma(factor[i], fma(slope, load_u16(sums + i * kLanes), intercept), shift);
      const Vec weight = weight_of(bits);
      store(weights + i * kLanes, weight);
      if constexpr (kTempered) {
        const Vec tempered = weight_of(fma(bits, Vec(heads[h].temper), Vec(heads[h].tempered_shift)));
        share[i] = fma(scale, tempered, share[i]);
      } else {
        share[i] = fma(scale, weight, share[i]);
      }
    }
  }
  for (int i = 0; i < kVectors; ++i) store(block.shares + i * kLanes, share[i]);
}

/// The same where a cap or a bias stands between estimate and logit.
inline void weigh_block_slowly(const SketchQuery& query, const SketchProposal& proposal, const std::byte* factors,
                               std::int64_t first_row, ScanBlock& block) {
  for (int t = 0; t < kSketchBlockRows; t += kLanes) store(block.shares + t, Vec(0.f));
  for (int h = 0; h < query.group_size; ++h) {
    float* values = block.weights + h * kSketchBlockRows;
    scale_sums(block.sums + h * kSketchBlockRows, factors, query.slopes[h], query.intercepts[h], values);
    logits(proposal, h, first_row, values, kSketchBlockRows);
    for (int t = 0; t < kSketchBlockRows; t += kLanes) {
      const Vec x = (load(values + t) - Vec(proposal.references[h])) * Vec(kBitsPerNat);
      store(values + t, weight_of(x + Vec(kOneBits)));
      const Vec tempered = weight_of(fma(x, Vec(proposal.tempers[h]), Vec(kOneBits)));
      store(block.shares + t, fma(Vec(proposal.scales[h]), tempered, load(block.shares + t)));
    }
  }
}

/// Takes hidden rows out of weights, shares and the draw.
inline void hide_rows(const std::byte* factors, std::int64_t begin, std::int64_t end, int group_size,
                      ScanBlock& block) {
  find_hidden(factors, begin, end, block.hidden);
  for (int t = 0; t < kSketchBlockRows; ++t) {
    if (!block.hidden[t]) continue;
    block.floors[t] = 0.f;
    block.shares[t] = 0.f;
    for (int h = 0; h < group_size; ++h) block.weights[h * kSketchBlockRows + t] = 0.f;
  }
}

/// Appends the rows that the draw hits; marks the quiet ones.
inline void draw_rows(const SketchDraw& draw, int group_size, std::int64_t first_row, ScanBlock& block,
                      SketchCandidates& found) {
  std::uint64_t hits = 0;
  for (int t = 0; t < kSketchBlockRows; t += kLanes) {
    const Vec probability = fma(load(block.shares + t), Vec(draw.rate), load(block.floors + t));
    const Vec uniform =
        draw.loud_only ? Vec(1.f - 6e-8f) : uniforms(draw.key, static_cast<std::uint32_t>(first_row + t));
    store(block.uniforms + t, uniform);
    store(block.quiet + t, select_lt(probability, Vec(1.f), Vec(1.f), Vec(0.f)));
    hits |= static_cast<std::uint64_t>(positive_mask(probability - uniform)) << t;
  }
  for (; hits != 0; hits &= hits - 1) {  // one unpredictable branch a block, not one per vector
    const int t = __builtin_ctzll(hits);
    const std::int64_t i = found.count++;
    found.rows[i] = static_cast<std::uint32_t>(first_row + t);
    found.shares[i] = block.shares[t];
    found.uniforms[i] = block.uniforms[t];
    for (int h = 0; h < group_size; ++h) found.weights[i * group_size + h] = block.weights[h * kSketchBlockRows + t];
  }
}

void scan(const SketchQuery& query, const SketchProposal& proposal, const SketchDraw& draw, const std::byte* blocks,
          std::int64_t first_row, std::int64_t begin, std::int64_t end, SketchCandidates& found, SketchSums& sums) {
  ScanBlock block;
  BitsOfHead heads[kMaxGroupSize];
  Vec weights[kMaxGroupSize];
  const bool plain = proposal.softcap == 0.f && proposal.alibi == nullptr;
  bool tempered = false;
  for (int h = 0; h < query.group_size; ++h) {
    const float unit = proposal.shrinks[h] * kBitsPerNat;
    heads[h] = {query.slopes[h] * unit,
                query.intercepts[h] * unit,
                (proposal.offsets[h] - proposal.references[h]) * kBitsPerNat + kOneBits,
                proposal.tempers[h],
                kOneBits * (1.f - proposal.tempers[h]),
                proposal.scales[h]};
    weights[h] = Vec(0.f);
    tempered = tempered || proposal.tempers[h] != 1.f;
  }
  Vec share(0.f);
  Vec rows(0.f);
  const std::ptrdiff_t block_bytes = (static_cast<std::ptrdiff_t>(query.code_bytes) + 2) * 64;
  bool partial = true;  // floors are to be set
  for (std::int64_t b = (begin - first_row) / kSketchBlockRows; first_row + b * kSketchBlockRows < end; ++b) {
    const std::byte* codes = blocks + b * block_bytes;
    const std::byte* factors = codes + block_bytes - kSketchBlockRows * 2;
    const std::int64_t row = first_row + b * kSketchBlockRows;
    for (std::ptrdiff_t i = 0; i < block_bytes; i += 64) __builtin_prefetch(codes + 4 * block_bytes + i);
    sum_all_entries(query, codes, block.sums);
    if (!plain) {
      weigh_block_slowly(query, proposal, factors, row, block);
    } else if (tempered) {
      weigh_block<true>(heads, query.group_size, factors, block);
    } else {
      weigh_block<false>(heads, query.group_size, factors, block);
    }
    if (partial) {  // the last block's: hide_rows() changed them
      for (int t = 0; t < kSketchBlockRows; t += kLanes) store(block.floors + t, Vec(draw.floor));
    }
    partial = row < begin || row + kSketchBlockRows > end || has_unusable_rows(factors);
    if (partial) hide_rows(factors, begin - row, end - row, query.group_size, block);
    draw_rows(draw, query.group_size, row, block, found);
    if (partial) {
      for (int t = 0; t < kSketchBlockRows; ++t) block.quiet[t] = block.hidden[t] ? 0.f : block.quiet[t];
    }
    for (int t = 0; t < kSketchBlockRows; t += kLanes) {
      rows = rows + load(block.quiet + t);
      share = fma(load(block.quiet + t), load(block.shares + t), share);
    }
    for (int h = 0; h < query.group_size; ++h) {
      for (int t = 0; t < kSketchBlockRows; t += kLanes) {
        weights[h] = fma(load(block.quiet + t), load(block.weights + h * kSketchBlockRows + t), weights[h]);
      }
    }
  }
  for (int h = 0; h < query.group_size; ++h) sums.weights[h] = sum(weights[h]);
  sums.share = sum(share);
  sums.rows = static_cast<std::int64_t>(sum(rows));
}

constexpr SketchKernels sketch_kernels{
    {&centre<DType::f32>, &centre<DType::f16>, &centre<DType::bf16>, &centre<DType::int8>, &centre<DType::k8v4>},
    &project,
    &encode,
    &luts,
    &estimates,
    &logits,
    &moments,
    &weigh,
    &expected_rows,
    &scan,
};

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
