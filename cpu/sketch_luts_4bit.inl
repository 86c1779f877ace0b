// The sketch index: tables of 16 entries, one for each four bits of a code, and the sums of what codes find in them;
// compiled per ISA; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kGroupBytes = 2;  // four tables, whose entries are added as bytes

int lut_bytes(int code_bytes) noexcept { return 32 * code_bytes; }

void luts(const float* bit_weights, int code_bytes, std::uint8_t* tables, float* slope, float* intercept) noexcept {
  alignas(64) static constexpr float kSigns[4][16] = {
      {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
      {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
      {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
      {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1},
  };
  const LutScale scale = scale_of(bit_weights, code_bytes, kGroupBytes);
  const bool usable = scale.per_unit > 0.f;
  *slope = scale.slope;
  *intercept = scale.intercept;
  for (int n = 0; n < 2 * code_bytes; ++n) {
    const float* w = bit_weights + n * 4;
    alignas(64) float entries[16];
    for (int i = 0; i < 16; i += kLanes) {
      Vec value(usable ? sum_of_magnitudes(w, 4) : 0.f);
      for (int j = 0; j < 4; ++j) value = fma(Vec(usable ? w[j] : 0.f), load(kSigns[j] + i), value);
      store(entries + i, max(value * Vec(scale.per_unit), Vec(0.f)));
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
  const std::ptrdiff_t head_stride = lut_bytes(code_bytes);
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
  for (int h = 0; h < kHeads; ++h, tables += lut_bytes(code_bytes), sums += kSketchBlockRows) {
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

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
