#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cpu/row_runs.h"
#include "lsh/sketch_index.h"
#include "runtime/borrowed/row_list.h"
#include "runtime/borrowed/row_tensors.h"

namespace tandem {

/// The rows of one layer in an engine's memory, and what is known about those that queries have seen.
///
/// Which rows a query sees says which sequence it belongs to: that of the list with which it has most in common. What
/// comes beyond a list's end is appended to it; where a query leaves a list before its end, it gets one of its own that
/// starts as the common part. It does when it comes for the second time, with all rows of the first: what slides over
/// the rows never does. Lists that nobody has used for long are dropped. One call at a time: see RowPoolLock.
class RowPool {
 public:
  /// Shorter lists, and shorter common parts, are not kept: no sketch is built on fewer rows.
  static constexpr std::int64_t kFewestRows = lsh::SketchIndex::kFewestRows;

  using MakeList = std::function<std::unique_ptr<RowList>(const RowTensors& rows)>;

  RowPool(std::uint64_t id, std::int32_t layer, const RowTensors& rows, MakeList make_list)
      : id_(id), layer_(layer), rows_(rows), make_list_(std::move(make_list)) {}

  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::int32_t layer() const noexcept { return layer_; }
  [[nodiscard]] const RowTensors& rows() const noexcept { return rows_; }

  /// Begins the next call: lists that are asked for from here on stay until its end.
  void begin_call() noexcept { ++calls_; }
  /// The list whose first rows are exactly `rows`, made, or made longer, if there is none; nullptr where it is too
  /// early for one. Of several queries of a call, those that see more come first. Throws Error(out_of_memory) or
  /// std::bad_alloc.
  RowList* list_of(const cpu::RowRuns& rows);
  /// Nobody may use the pool any more who has not got its lock yet. With the lock held.
  void unbind() noexcept { bound_ = false; }
  /// Lists that have one of `rows` end before it.
  void forget(const cpu::RowRuns& rows);
  void forget_all() noexcept { lists_.clear(); }
  /// Compares all rows of the indexes with what they were and forgets those that differ; returns their number.
  std::int64_t forget_stale();
  /// The same for the lists of which a selection came upon such a row; true when there was one.
  bool forget_found();

  [[nodiscard]] const std::vector<std::unique_ptr<RowList>>& lists() const noexcept { return lists_; }
  /// Rows of indexes that were forgotten because they had been written, and those of them that nobody had reported.
  [[nodiscard]] std::int64_t rows_forgotten() const noexcept { return rows_forgotten_; }
  [[nodiscard]] std::int64_t rows_found() const noexcept { return rows_found_; }

 private:
  friend class RowPoolLock;
  RowList& new_list();
  /// Whether `rows` begin with all rows of a query without a list that came before; remembered for the next, if not.
  bool returns(const cpu::RowRuns& rows);
  void cut(RowList& list, std::int64_t length);
  std::int64_t forget_stale_of(RowList& list);
  void drop_short_lists() noexcept;

  const std::uint64_t id_;
  const std::int32_t layer_;
  const RowTensors rows_;
  const MakeList make_list_;
  std::vector<std::unique_ptr<RowList>> lists_;
  std::vector<cpu::RowRuns> candidates_;  // what queries without a list saw, oldest first
  bool bound_ = true;
  std::int64_t calls_ = 0;
  std::int64_t rows_forgotten_ = 0;
  std::int64_t rows_found_ = 0;
  std::atomic<bool> busy_{false};
};

/// Exclusive use of a pool for one call. A pool that another call holds is an error, not a wait.
class RowPoolLock {
 public:
  /// Throws Error(invalid_state).
  explicit RowPoolLock(RowPool& pool);
  ~RowPoolLock() { pool_.busy_.store(false, std::memory_order_release); }
  RowPoolLock(const RowPoolLock&) = delete;
  RowPoolLock& operator=(const RowPoolLock&) = delete;

 private:
  RowPool& pool_;
};

}  // namespace tandem
