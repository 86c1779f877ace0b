// The sketch index: how lookup tables are scaled, whatever their size; compiled per ISA; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

inline float sum_of_magnitudes(const float* w, int count) {
  float total = 0.f;
  for (int i = 0; i < count; ++i) total += ::fabsf(w[i]);
  return total;
}

/// estimate = factor * (slope * sum of entries + intercept).
struct LutScale {
  float per_unit = 0.f;  ///< of the entries; 0: the weights tell nothing, every row looks alike
  float slope = 0.f;
  float intercept = 0.f;
};

/// The scale at which the entries of a group of tables, those of `group_bytes` bytes of a code, add up as bytes.
inline LutScale scale_of(const float* bit_weights, int code_bytes, int group_bytes) {
  constexpr float kMostSum = 253.f;  // 255 less what rounding may add to four entries
  float widest = 0.f;
  float total = 0.f;
  for (int byte = 0; byte < code_bytes; byte += group_bytes) {
    const int bytes = code_bytes - byte < group_bytes ? code_bytes - byte : group_bytes;
    const float half_range = sum_of_magnitudes(bit_weights + byte * 8, bytes * 8);
    widest = half_range > widest ? half_range : widest;
    total += half_range;
  }
  if (!(widest > 1e-30f && widest < 1e30f)) return {};
  const float per_unit = kMostSum / (2.f * widest);
  return {per_unit, 1.f / per_unit, -total};
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
