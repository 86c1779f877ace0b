// The sketch index: tables of 64 entries, which AVX512-VBMI looks up in one instruction, and the sums of what codes
// find in them; no include guard.
//
// A group is three bytes of a code, or the one or two that are left: a table for the six low bits of each byte, and one
// for all their upper pairs of bits.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kGroupBytes = 3;
constexpr int kTableEntries = 64;

constexpr int num_tables(int code_bytes) {
  return code_bytes / kGroupBytes * (kGroupBytes + 1) +
         (code_bytes % kGroupBytes > 0 ? code_bytes % kGroupBytes + 1 : 0);
}

int lut_bytes(int code_bytes) noexcept { return num_tables(code_bytes) * kTableEntries; }

/// The entries of one table, from the weights of its six bits.
inline void write_table(const float* w, float per_unit, std::uint8_t* table) {
  alignas(64) static constexpr float kSigns[4][16] = {
      {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
      {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
      {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
      {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1},
  };
  Vec low_bits(sum_of_magnitudes(w, 6));
  for (int j = 0; j < 4; ++j) low_bits = fma(Vec(w[j]), load(kSigns[j]), low_bits);
  for (int high = 0; high < 4; ++high) {
    const Vec value = low_bits + Vec((high & 1 ? w[4] : -w[4]) + (high & 2 ? w[5] : -w[5]));
    alignas(64) float entries[16];
    store(entries, max(value * Vec(per_unit), Vec(0.f)));
    round_16_to_bytes(entries, table + high * 16);
  }
}

void luts(const float* bit_weights, int code_bytes, std::uint8_t* tables, float* slope, float* intercept) noexcept {
  const LutScale scale = scale_of(bit_weights, code_bytes, kGroupBytes);
  *slope = scale.slope;
  *intercept = scale.intercept;
  if (!(scale.per_unit > 0.f)) {
    std::memset(tables, 0, static_cast<std::size_t>(lut_bytes(code_bytes)));
    return;
  }
  for (int byte = 0; byte < code_bytes; byte += kGroupBytes) {
    const int bytes = code_bytes - byte < kGroupBytes ? code_bytes - byte : kGroupBytes;
    float upper[2 * kGroupBytes] = {};
    for (int i = 0; i < bytes; ++i, tables += kTableEntries) {
      const float* w = bit_weights + (byte + i) * 8;
      write_table(w, scale.per_unit, tables);
      upper[2 * i] = w[6];
      upper[2 * i + 1] = w[7];
    }
    write_table(upper, scale.per_unit, tables);
    tables += kTableEntries;
  }
}

/// The entry of each column; bits 6 and 7 of an index do not count.
inline Bytes lookup_6bit(const std::uint8_t* table, Bytes index) {
  return _mm512_permutexvar_epi8(index, _mm512_load_si512(table));
}

/// Bits of a where mask has ones, of b elsewhere.
inline Bytes select_bits(char mask, Bytes a, Bytes b) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8(mask), a, b, 0xca);
}

/// all += the entries of even columns + 256 * those of odd ones, modulo 2^16; odd += those of odd columns.
template <int kHeads, int kBytes>
inline void add_group(const std::uint8_t* tables, std::ptrdiff_t head_stride, const std::byte* lines, Bytes* all,
                      Bytes* odd) {
  Bytes index[kBytes + 1];
  for (int i = 0; i < kBytes; ++i) index[i] = load_bytes(lines + i * 64);
  Bytes upper = _mm512_srli_epi16(index[0], 6);  // what a shift brings in from the next column falls to the masks
  if constexpr (kBytes == 1) upper = _mm512_and_si512(upper, _mm512_set1_epi8(0x03));
  if constexpr (kBytes >= 2) upper = select_bits(0x03, upper, _mm512_srli_epi16(index[1], 4));
  if constexpr (kBytes == 2) upper = _mm512_and_si512(upper, _mm512_set1_epi8(0x0f));
  if constexpr (kBytes == 3) upper = select_bits(0x0f, upper, _mm512_srli_epi16(index[2], 2));
  index[kBytes] = upper;
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
    const std::uint8_t* t = tables + h * head_stride;
    Bytes entries = add_bytes(lookup_6bit(t, index[0]), lookup_6bit(t + kTableEntries, index[1]));
    if constexpr (kBytes == 2) entries = add_bytes(entries, lookup_6bit(t + 2 * kTableEntries, index[2]));
    if constexpr (kBytes == 3) {
      entries = add_bytes(entries, add_bytes(lookup_6bit(t + 2 * kTableEntries, index[2]),
                                             lookup_6bit(t + 3 * kTableEntries, index[3])));
    }
    all[h] = add_pairs(all[h], entries);
    odd[h] = add_pairs(odd[h], odd_bytes(entries));
  }
}

/// Sums of table entries, (kHeads, 64).
template <int kHeads>
void sum_entries(const std::uint8_t* tables, int code_bytes, const std::byte* block, std::uint16_t* sums) {
  static_assert(kSketchBlockRows == kByteLanes);
  const std::ptrdiff_t head_stride = lut_bytes(code_bytes);
  Bytes all[kHeads];
  Bytes odd[kHeads];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) all[h] = odd[h] = zero_bytes();
  int byte = 0;
  for (; byte + kGroupBytes <= code_bytes; byte += kGroupBytes, tables += (kGroupBytes + 1) * kTableEntries) {
    add_group<kHeads, 3>(tables, head_stride, block + byte * 64, all, odd);
  }
  if (code_bytes - byte == 2) add_group<kHeads, 2>(tables, head_stride, block + byte * 64, all, odd);
  if (code_bytes - byte == 1) add_group<kHeads, 1>(tables, head_stride, block + byte * 64, all, odd);
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
    store_pairs(sums + h * kSketchBlockRows, subtract_pairs(all[h], as_odd_bytes(odd[h])));
    store_pairs(sums + h * kSketchBlockRows + 32, odd[h]);
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
