// A block's rows, as the kernels of scores and of values take them; compiled per ISA; no include guard.
//
// A tile reads each row once for up to four vectors: the heads of a GQA group cost little more memory traffic than one.
// What a vector gets does not depend on the tile that it is in: every sum has one accumulator and one order.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr int kMostHeads = 4;

/// K or V of `count` rows.
struct RowPart {
  const std::byte* const* rows;
  int count;
  std::int64_t offset;  ///< in bytes, from each row's start
};

/// Asks memory for rows that are needed later: a line for each line that is read now, in the order of addresses. Asking
/// for several at once, or for one half of every row before the other, halves the bandwidth.
class Upcoming {
 public:
  explicit Upcoming(const UpcomingRows& rows)
      : rows_(rows.rows), left_(rows.count), offset_(rows.offset), bytes_(rows.bytes) {
    if (left_ != 0) start_row();
  }
  /// Call number `step` of those that read kBytes each.
  template <int kBytes>
  void while_reading(int step) {
    if constexpr (kBytes >= 64) unroll<kBytes / 64>([&](auto) { fetch_line(); });
    if constexpr (kBytes < 64) {
      if (step % (64 / kBytes) == 0) fetch_line();
    }
  }
  void fetch_rest() {
    while (line_ != end_) fetch_line();
  }

 private:
  void fetch_line() {
    if (line_ == end_) return;
    __builtin_prefetch(line_, 0, 2);
    line_ += 64;
    if (line_ < end_) return;
    line_ = end_;
    if (--left_ == 0) return;
    ++rows_;
    start_row();
  }
  void start_row() {
    line_ = *rows_ + offset_;
    end_ = line_ + bytes_;
  }
  const std::byte* const* rows_;
  int left_;
  std::int64_t offset_, bytes_;
  const std::byte* line_ = nullptr;
  const std::byte* end_ = nullptr;
};

/// Calls body(Index<heads>, first) for tiles of 4, 2 and 1 that cover `num_vectors` vectors.
template <typename Body>
inline void for_head_tiles(int num_vectors, Body&& body) {
  int v = 0;
  for (; v + kMostHeads <= num_vectors; v += kMostHeads) body(Index<kMostHeads>{}, v);
  if (v + 2 <= num_vectors) {
    body(Index<2>{}, v);
    v += 2;
  }
  if (v < num_vectors) body(Index<1>{}, v);
}

/// From this many query vectors on, rows are decoded once into fp32 instead of anew for every four vectors.
constexpr int kDecodeFrom = 16;

/// K or V of a block as fp32 in kernel order.
struct DecodedPart {
  template <Element element>
  static DecodedPart of(RowPart part, int padded_dim, float* decoded) {
    DecodedPart result;
    for (int r = 0; r < part.count; ++r) {
      float* target = decoded + static_cast<std::ptrdiff_t>(r) * padded_dim;
      const std::byte* row = part.rows[r] + part.offset;
      int i = 0;
      for (; i + 2 * kLanes <= padded_dim; i += 2 * kLanes) {
        const Pair pair = load_pair<element>(row, i);
        store(target + i, pair.first);
        store(target + i + kLanes, pair.second);
      }
      if (i < padded_dim) store(target + i, load_elements<element>(row, i));
      result.rows[r] = reinterpret_cast<const std::byte*>(target);
    }
    result.count = part.count;
    return result;
  }
  [[nodiscard]] RowPart part() const { return {rows, count, 0}; }
  const std::byte* rows[kBlockRows];
  int count;
};

/// What the integers of each row's K or V are to be multiplied with: one number per row, so that scores and weights are
/// scaled instead of elements.
struct RowScales {
  RowScales() = default;
  RowScales(RowPointers rows, std::int64_t offset) {
    for (int r = 0; r < rows.count; ++r) std::memcpy(factors + r, rows.rows[r] + offset, sizeof(float));
  }
  void apply(float* values) const {
    for (int r = 0; r < kBlockRows; r += kLanes) store(values + r, load(values + r) * load(factors + r));
  }
  alignas(64) float factors[kBlockRows] = {};
};

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
