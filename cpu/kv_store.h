#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/page_pool.h"
#include "cpu/row_layout.h"

namespace tandem::cpu {

/// Rows of one KV head that lie in tensors of somebody else: row r of a store at `base` + places[first + r] *
/// layout.row_bytes. Rows from -first on are there, too.
struct BorrowedRows {
  const std::byte* base = nullptr;
  std::shared_ptr<const std::vector<std::uint32_t>> places;
  std::int64_t first = 0;
};

/// Append-only K, V rows of one (sequence, layer, kv_head), in pages of kPageRows, or borrowed.
///
/// Rows are published in their order, once nobody else holds their tokens: a window that compresses what it holds hands
/// over the exact rows before it forgets the tokens.
/// Full pages are immutable and shared by forks; the last, partly filled page belongs to one store alone, so a fork or
/// a truncation copies at most one page and appending never has to ask who else reads. Not thread-safe; stores that
/// share pages may be used by different threads.
class KvStore {
 public:
  /// `pool` must outlive the store and hold pages of layout.page_bytes().
  KvStore(const RowLayout& layout, PagePool& pool) : layout_(layout), pool_(&pool) {}
  /// A store that has no memory, and in which rows appear by borrow_up_to().
  KvStore(const RowLayout& layout, BorrowedRows rows) : layout_(layout), borrowed_(std::move(rows)) {}

  [[nodiscard]] bool is_borrowed() const noexcept { return borrowed_.places != nullptr; }
  /// Published rows: those that a step may attend to.
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  /// Rows that lie here, published or not.
  [[nodiscard]] std::int64_t stored() const noexcept { return stored_; }
  [[nodiscard]] const RowLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] const std::byte* row(std::int64_t i) const noexcept {
    if (is_borrowed()) {
      const std::uint32_t place = (*borrowed_.places)[static_cast<std::size_t>(borrowed_.first + i)];
      return borrowed_.base + std::int64_t{place} * layout_.row_bytes;
    }
    return pages_[static_cast<std::size_t>(i / kPageRows)].get() + i % kPageRows * layout_.row_bytes;
  }

  /// pointers[i] = row(first + i) for `count` rows.
  void rows(std::int64_t first, std::int64_t count, const std::byte** pointers) const noexcept;

  /// Of a borrowed store, whose places have grown: `stored` rows lie there now, unpublished.
  void borrow_up_to(std::int64_t stored) noexcept { stored_ = stored; }
  /// Makes room for `rows` more rows, so that appending them cannot fail. Throws Error(out_of_memory); nothing changes.
  void reserve(std::int64_t rows);
  /// Appends `count` rows of this layout that lie back to back, unpublished. Room must have been reserved.
  void store(const std::byte* rows, std::int64_t count) noexcept;
  /// The first `size` rows are published from now on.
  void publish(std::int64_t size) noexcept;
  /// Both at once.
  void append(const std::byte* rows, std::int64_t count) noexcept {
    store(rows, count);
    publish(stored_);
  }
  /// A store that holds the first `stored` rows, `size` of them published. Throws Error(out_of_memory).
  [[nodiscard]] KvStore fork(std::int64_t size, std::int64_t stored) const;
  [[nodiscard]] KvStore fork(std::int64_t size) const { return fork(size, size); }

 private:
  RowLayout layout_;
  PagePool* pool_ = nullptr;
  BorrowedRows borrowed_;
  std::vector<PageRef> pages_;
  std::int64_t stored_ = 0;
  std::int64_t size_ = 0;
};

}  // namespace tandem::cpu
