// What the kernels of all codecs need of a block's rows; compiled per ISA by codec_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

/// `rows` outlives the result.
inline Upcoming upcoming_of(const CodedRows& rows) {
  return Upcoming({&rows.upcoming, rows.upcoming_bytes == 0 ? 0 : 1, rows.upcoming_bytes});
}

/// Scores of rows that the block does not have.
inline void hide_rest(int count, int num_vectors, float* scores) {
  for (int v = 0; v < num_vectors; ++v) {
    for (int r = count; r < kBlockRows; ++r) scores[static_cast<std::ptrdiff_t>(v) * kBlockRows + r] = -kInfinity;
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
