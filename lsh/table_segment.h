#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lsh/collision_marks.h"
#include "numa/memory_ledger.h"

namespace tandem::lsh {

/// K and L of SimHash tables.
struct TableShape {
  int bits_per_table;
  int num_tables;
  [[nodiscard]] std::int64_t buckets() const noexcept { return std::int64_t{1} << bits_per_table; }
};

/// Codes of up to cpu::kCodeBlock rows that wait to be sorted, (num_tables, kCodeBlock). Immutable once it is shared.
struct CodeBlock {
  CodeBlock(const TableShape& shape, numa::MemoryLedger& ledger);
  [[nodiscard]] static std::int64_t bytes(const TableShape& shape) noexcept;

  numa::Reservation reservation;
  std::vector<std::uint16_t> codes;
};
using CodeBlocks = std::vector<std::shared_ptr<const CodeBlock>>;

/// Up to kMaxRows consecutive rows, counting-sorted into the buckets of every table. Immutable, so forks share it, and
/// safe to read from several threads. Rows are numbered from the segment's first one, so an id takes two bytes.
class TableSegment {
 public:
  using Ref = std::shared_ptr<const TableSegment>;
  static constexpr int kMaxRows = 32768;  // an offset, at most kMaxRows, fits 16 bits; marks of a row fit the L1 cache

  /// The rows of `old` (may be null) and the `added` ones of `blocks`, together at most kMaxRows. Throws
  /// Error(out_of_memory).
  static Ref merged(const TableShape& shape, const TableSegment* old, const CodeBlocks& blocks, int added,
                    numa::MemoryLedger& ledger);
  /// The first `rows` rows. Throws Error(out_of_memory).
  [[nodiscard]] Ref cut(int rows, numa::MemoryLedger& ledger) const;

  /// Counts the collisions of query_codes (heads, num_tables) with the rows of this segment. Returns the bytes that
  /// were read of offsets and ids.
  std::int64_t mark(const std::uint16_t* query_codes, int heads, CollisionMarks& marks) const;

  [[nodiscard]] int rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes(shape_, rows_); }

 private:
  TableSegment(const TableShape& shape, int rows, numa::MemoryLedger& ledger);
  [[nodiscard]] static std::int64_t bytes(const TableShape& shape, int rows) noexcept;
  [[nodiscard]] std::uint16_t* offsets(std::int64_t table) const noexcept {
    return offsets_.get() + table * (shape_.buckets() + 1);
  }
  [[nodiscard]] std::uint16_t* ids(std::int64_t table) const noexcept { return ids_.get() + table * rows_; }

  TableShape shape_;
  int rows_;
  numa::Reservation reservation_;
  std::unique_ptr<std::uint16_t[]> offsets_;  // (num_tables, buckets + 1), relative to the table's ids
  std::unique_ptr<std::uint16_t[]> ids_;      // (num_tables, rows), ascending within a bucket
};

}  // namespace tandem::lsh
