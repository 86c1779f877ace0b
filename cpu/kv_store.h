#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/page_pool.h"
#include "cpu/row_layout.h"

namespace tandem::cpu {

/// Append-only K, V rows of one (sequence, layer, kv_head) in pages of kPageRows.
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

  /// Published rows: those that a step may attend to.
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  /// Rows that lie here, published or not.
  [[nodiscard]] std::int64_t stored() const noexcept { return stored_; }
  [[nodiscard]] const RowLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] const std::byte* row(std::int64_t i) const noexcept {
    return pages_[static_cast<std::size_t>(i / kPageRows)].get() + i % kPageRows * layout_.row_bytes;
  }

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
  PagePool* pool_;
  std::vector<PageRef> pages_;
  std::int64_t stored_ = 0;
  std::int64_t size_ = 0;
};

}  // namespace tandem::cpu
