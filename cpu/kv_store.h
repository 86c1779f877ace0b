#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/page_pool.h"
#include "cpu/row_layout.h"

namespace tandem::cpu {

/// Append-only K, V rows of one (sequence, layer, kv_head) in pages of kPageRows.
///
/// Full pages are immutable and shared by forks; the last, partly filled page belongs to one store alone, so a fork or
/// a truncation copies at most one page and appending never has to ask who else reads. Not thread-safe; stores that
/// share pages may be used by different threads.
class KvStore {
 public:
  /// `pool` must outlive the store and hold pages of layout.page_bytes().
  KvStore(const RowLayout& layout, PagePool& pool) : layout_(layout), pool_(&pool) {}

  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  [[nodiscard]] const RowLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] const std::byte* row(std::int64_t i) const noexcept {
    return pages_[static_cast<std::size_t>(i / kPageRows)].get() + i % kPageRows * layout_.row_bytes;
  }

  /// Makes room for `rows` more rows, so that appending them cannot fail. Throws Error(out_of_memory); nothing changes.
  void reserve(std::int64_t rows);
  /// Appends `count` rows of this layout that lie back to back. Room must have been reserved.
  void append(const std::byte* rows, std::int64_t count) noexcept;
  /// A store that holds the first `size` rows. Throws Error(out_of_memory).
  [[nodiscard]] KvStore fork(std::int64_t size) const;

 private:
  RowLayout layout_;
  PagePool* pool_;
  std::vector<PageRef> pages_;
  std::int64_t size_ = 0;
};

}  // namespace tandem::cpu
