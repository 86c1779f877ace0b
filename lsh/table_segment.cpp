#include "lsh/table_segment.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/codec/simhash.h"

namespace tandem::lsh {
namespace {

using cpu::kCodeBlock;

/// Calls use(code, row) for the `rows` rows of one table, in order.
template <typename Use>
void for_each_code(const CodeBlocks& blocks, std::int64_t table, int rows, Use use) {
  for (int first = 0; first < rows; first += kCodeBlock) {
    const std::uint16_t* codes =
        blocks[static_cast<std::size_t>(first / kCodeBlock)]->codes.data() + table * kCodeBlock;
    const int count = std::min(kCodeBlock, rows - first);
    for (int v = 0; v < count; ++v) use(codes[v], first + v);
  }
}

// Buckets are short: copied in runs of this many ids, where what a run has too much is overwritten by the next bucket.
constexpr int kRun = 16;

void copy_runs(const std::uint16_t* from, int count, std::uint16_t* to) noexcept {
  for (int i = 0; i < count; i += kRun) std::memcpy(to + i, from + i, kRun * sizeof(std::uint16_t));
}

struct IdRange {
  const std::uint16_t* begin;
  const std::uint16_t* end;
};

void prefetch(const IdRange& ids) noexcept {
  constexpr std::ptrdiff_t kIdsPerLine = 32;
  for (const std::uint16_t* id = ids.begin; id < ids.end; id += kIdsPerLine) __builtin_prefetch(id);
  if (ids.begin < ids.end) __builtin_prefetch(ids.end - 1);
}

}  // namespace

CodeBlock::CodeBlock(const TableShape& shape, numa::MemoryLedger& ledger)
    : reservation(ledger.reserve(bytes(shape), "SimHash codes")),
      codes(static_cast<std::size_t>(shape.num_tables) * kCodeBlock) {}

std::int64_t CodeBlock::bytes(const TableShape& shape) noexcept {
  return std::int64_t{2} * shape.num_tables * kCodeBlock;
}

std::int64_t TableSegment::bytes(const TableShape& shape, int rows) noexcept {
  return std::int64_t{2} * shape.num_tables * (shape.buckets() + 1 + rows);
}

TableSegment::TableSegment(const TableShape& shape, int rows, numa::MemoryLedger& ledger)
    : shape_(shape),
      rows_(rows),
      reservation_(ledger.reserve(bytes(shape, rows), "SimHash tables")),
      offsets_(std::make_unique_for_overwrite<std::uint16_t[]>(
          static_cast<std::size_t>(shape.num_tables * (shape.buckets() + 1)))),
      ids_(std::make_unique_for_overwrite<std::uint16_t[]>(
          static_cast<std::size_t>(shape.num_tables) * static_cast<std::size_t>(rows) + kRun)) {}

TableSegment::Ref TableSegment::merged(const TableShape& shape, const TableSegment* old, const CodeBlocks& blocks,
                                       int added, numa::MemoryLedger& ledger) {
  const int old_rows = old == nullptr ? 0 : old->rows_;
  const std::int64_t buckets = shape.buckets();
  const std::shared_ptr<TableSegment> result(new TableSegment(shape, old_rows + added, ledger));
  std::vector<std::uint16_t> cursors(static_cast<std::size_t>(buckets));
  std::uint16_t* cursor = cursors.data();
  for (std::int64_t t = 0; t < shape.num_tables; ++t) {
    std::uint16_t* offsets = result->offsets(t);
    std::uint16_t* ids = result->ids(t);
    std::fill_n(cursor, buckets, std::uint16_t{0});
    for_each_code(blocks, t, added, [cursor](std::uint16_t code, int) { ++cursor[code]; });
    int filled = 0;
    for (std::int64_t b = 0; b < buckets; ++b) {
      offsets[b] = static_cast<std::uint16_t>(filled);
      const int new_count = cursor[b];
      if (old != nullptr) {
        const std::uint16_t* old_offsets = old->offsets(t) + b;
        const int old_count = old_offsets[1] - old_offsets[0];
        copy_runs(old->ids(t) + old_offsets[0], old_count, ids + filled);
        filled += old_count;
      }
      cursor[b] = static_cast<std::uint16_t>(filled);
      filled += new_count;
    }
    offsets[buckets] = static_cast<std::uint16_t>(filled);
    for_each_code(blocks, t, added, [cursor, ids, old_rows](std::uint16_t code, int row) {
      ids[cursor[code]++] = static_cast<std::uint16_t>(old_rows + row);
    });
  }
  return result;
}

TableSegment::Ref TableSegment::cut(int rows, numa::MemoryLedger& ledger) const {
  const std::shared_ptr<TableSegment> result(new TableSegment(shape_, rows, ledger));
  for (std::int64_t t = 0; t < shape_.num_tables; ++t) {
    const std::uint16_t* old_offsets = offsets(t);
    std::uint16_t* ids_end = result->ids(t);
    for (std::int64_t b = 0; b < shape_.buckets(); ++b) {
      result->offsets(t)[b] = static_cast<std::uint16_t>(ids_end - result->ids(t));
      const std::uint16_t* begin = ids(t) + old_offsets[b];
      const std::uint16_t* end = ids(t) + old_offsets[b + 1];
      ids_end = std::copy(begin, std::lower_bound(begin, end, static_cast<std::uint16_t>(rows)), ids_end);
    }
    result->offsets(t)[shape_.buckets()] = static_cast<std::uint16_t>(rows);
  }
  return result;
}

std::int64_t TableSegment::mark(const std::uint16_t* query_codes, int heads, CollisionMarks& marks) const {
  const std::int64_t tables = shape_.num_tables;
  const auto code = [=](std::int64_t head, std::int64_t t) { return query_codes[head * tables + t]; };
  IdRange ranges[2][cpu::kMaxTables];  // of the head that is counted and of the next one
  std::int64_t ids_read = 0;
  // Three stages, a whole head apart: fetch the offsets; read them and fetch the ids; read those.
  for (std::int64_t head = -2; head < heads; ++head) {
    std::uint8_t* bytes = marks.row_bytes(std::max<std::int64_t>(head, 0));
    const cpu::CollisionMark bits = CollisionMarks::bits(std::max<std::int64_t>(head, 0));
    for (std::int64_t t = 0; t < tables; ++t) {
      if (head + 2 < heads) __builtin_prefetch(offsets(t) + code(head + 2, t));
      if (head >= -1 && head + 1 < heads) {
        const std::uint16_t* range = offsets(t) + code(head + 1, t);
        ranges[(head + 1) % 2][t] = {ids(t) + range[0], ids(t) + range[1]};
        prefetch(ranges[(head + 1) % 2][t]);
      }
      if (head < 0) continue;
      const IdRange range = ranges[head % 2][t];
      ids_read += range.end - range.begin;
      for (const std::uint16_t* id = range.begin; id < range.end; ++id) {
        const std::uint8_t seen = bytes[*id];
        bytes[*id] = static_cast<std::uint8_t>(seen | bits.once | ((seen << 1) & bits.twice));
      }
    }
  }
  return 2 * (ids_read + 2 * tables * heads);
}

}  // namespace tandem::lsh
