#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/kernels.h"
#include "cpu/selection.h"

namespace tandem::lsh {

/// Collisions of the heads of a group with consecutive rows, counted up to two: a byte per row and four heads, so that
/// a segment's marks stay in the first-level cache while its tables are read.
class CollisionMarks {
 public:
  /// No collisions of `heads` heads with `rows` rows. Allocates only beyond what was needed before.
  void reset(int heads, std::int64_t rows);

  /// The bytes that count head `head`, one per row, whole blocks of cpu::kCodeBlock rows.
  [[nodiscard]] std::uint8_t* row_bytes(std::int64_t head) noexcept { return bytes_.data() + head / kHeads * stride_; }
  /// The bits of a head in them.
  [[nodiscard]] static cpu::CollisionMark bits(std::int64_t head) noexcept {
    const auto once = static_cast<std::uint8_t>(1u << (2 * (head % kHeads)));
    return {once, static_cast<std::uint8_t>(once << 1)};
  }

  /// Appends the rows in [begin, end) that some head met at least min_collisions (1 or 2) times, ascending; row 0 of
  /// the marks is row `first` of the selection.
  void append_found(const cpu::Kernels& kernels, int min_collisions, std::int64_t first, std::int64_t begin,
                    std::int64_t end, cpu::Selection& selection);

 private:
  static constexpr int kHeads = 4;  // that share a byte

  std::int64_t rows_ = 0;
  std::int64_t stride_ = 0;                 // rows_ in whole blocks
  int groups_ = 0;                          // of kHeads heads
  cpu::AlignedVector<std::uint8_t> bytes_;  // (groups_, stride_)
  std::vector<std::uint64_t> found_;        // a bit per row
};

}  // namespace tandem::lsh
