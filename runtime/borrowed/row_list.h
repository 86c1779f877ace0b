#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/row_runs.h"
#include "numa/memory_ledger.h"
#include "runtime/sequence.h"

namespace tandem {

/// Rows of a pool in the order in which queries came to see them, which is a sequence in all but name, with an index.
///
/// What a sequence has in its window lies where everything else does: the first rows of the list and the latest ones
/// are attended exactly (first_rows and at least latest_rows), those between are the store of every head. Not
/// thread-safe.
class RowList {
 public:
  using Places = std::shared_ptr<const std::vector<std::uint32_t>>;
  /// A layer without rows, whose stores find theirs by `places`.
  using EmptyLayer = std::function<LayerState(const Places& places)>;

  /// `ledger` must outlive the list.
  RowList(std::uint64_t id, const EmptyLayer& empty_layer, std::int64_t latest_rows, numa::MemoryLedger& ledger);

  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::int64_t length() const noexcept { return rows_.count(); }
  [[nodiscard]] const cpu::RowRuns& rows() const noexcept { return rows_; }
  [[nodiscard]] LayerState& layer() noexcept { return layer_; }
  /// Of the stores: rows that have, or will have with the next selecting step, codes.
  [[nodiscard]] std::int64_t indexed_rows() const noexcept { return layer_.heads.front().store.size(); }
  /// Codes, fingerprints and places, all heads.
  [[nodiscard]] std::int64_t bytes() const noexcept;

  /// Appends the rows of `all` beyond the first length(), which must be those of the list. Throws
  /// Error(out_of_memory) or std::bad_alloc, and then nothing changed.
  void extend(const cpu::RowRuns& all);
  /// Forgets the rows from index `length` on. Throws Error(out_of_memory) or std::bad_alloc, and then nothing changed.
  void truncate(std::int64_t length);
  /// Makes `copy`, a new list, the first `length` rows of this one, sharing what is immutable of the indexes. Throws
  /// likewise; the copy can then only be dropped.
  void fork_into(RowList& copy, std::int64_t length);
  /// The least index of a row of the list of which a head's fingerprint differs, and how many such rows there are;
  /// length() and 0 for none.
  struct Stale {
    std::int64_t first;
    std::int64_t count;
  };
  [[nodiscard]] Stale find_stale() const;
  /// The least index in the list of the rows [begin, begin + count) of the pool; length() when it has none of them.
  [[nodiscard]] std::int64_t first_of(std::int64_t begin, std::int64_t count) const noexcept;

  std::int64_t last_use = 0;  ///< number of the pool's call

 private:
  void reserve(std::int64_t rows);
  /// Rows that stores should have: all of the list but the first and the latest.
  [[nodiscard]] std::int64_t publishable() const noexcept;
  void publish();

  std::uint64_t id_;
  std::int64_t latest_rows_;
  numa::MemoryLedger& ledger_;
  std::shared_ptr<std::vector<std::uint32_t>> places_;
  cpu::RowRuns rows_;
  LayerState layer_;
  std::int64_t capacity_ = 0;  // rows, of the places and of every head's fingerprints
  numa::Reservation memory_;
};

}  // namespace tandem
