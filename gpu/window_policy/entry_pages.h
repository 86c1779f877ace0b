#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

namespace tandem::gpu {

/// Pages of the same number of rows, cut from one range of memory, for tables of variable length: no row of the range
/// lies idle for the sake of a longer head, except in a table's first and last page. Thread-safe.
class EntryPages {
 public:
  /// `memory` has num_pages * page_rows * row_bytes bytes, of host or device: it is only pointed to, never read or
  /// written, and belongs to the caller. Throws Error(invalid_argument).
  EntryPages(std::byte* memory, std::int64_t row_bytes, std::int32_t num_pages, std::int32_t page_rows = 64);
  EntryPages(const EntryPages&) = delete;
  EntryPages& operator=(const EntryPages&) = delete;
  ~EntryPages() = default;

  [[nodiscard]] std::int32_t page_rows() const noexcept { return page_rows_; }
  [[nodiscard]] std::int64_t row_bytes() const noexcept { return row_bytes_; }
  [[nodiscard]] std::int32_t num_pages() const noexcept { return num_pages_; }
  [[nodiscard]] std::int32_t free_pages() const noexcept;
  [[nodiscard]] std::byte* page(std::int32_t id) const noexcept {
    return memory_ + std::int64_t{id} * page_rows_ * row_bytes_;
  }

 private:
  friend class EntryTable;
  /// Adds `count` pages to `ids`. Throws Error(out_of_memory) or std::bad_alloc, and changes nothing then.
  void take(std::int64_t count, std::vector<std::int32_t>& ids);
  void give_back(std::span<const std::int32_t> ids) noexcept;

  std::byte* memory_;
  std::int64_t row_bytes_;
  std::int32_t num_pages_;
  std::int32_t page_rows_;
  mutable std::mutex mutex_;
  std::vector<std::int32_t> free_;
};

/// The rows of one head, in pages that nobody else uses: row i of the table is row i mod page_rows of its page
/// i / page_rows. Rows leave from the front or from the back; numbers stay. Not thread-safe.
class EntryTable {
 public:
  /// `pages` must outlive the table.
  explicit EntryTable(EntryPages& pages) noexcept : pages_(&pages) {}
  EntryTable(EntryTable&& other) noexcept;
  EntryTable& operator=(EntryTable&& other) noexcept;
  EntryTable(const EntryTable&) = delete;
  EntryTable& operator=(const EntryTable&) = delete;
  ~EntryTable() { pages_->give_back(ids_); }

  [[nodiscard]] std::int64_t begin() const noexcept { return begin_; }
  [[nodiscard]] std::int64_t end() const noexcept { return end_; }
  /// Pages that hold rows [begin, end), in order.
  [[nodiscard]] std::span<const std::int32_t> page_ids() const noexcept { return ids_; }
  /// Address of row i in [begin, end); to overwrite the last one, row(end() - 1).
  [[nodiscard]] std::byte* row(std::int64_t i) const noexcept;

  /// Rows [end, end + count) are held now; what is in them is whatever was. Throws Error(out_of_memory) with the
  /// figures when the pages do not suffice, and changes nothing then.
  void append(std::int64_t count = 1);
  /// Rows before `begin` are no longer held; pages without a row go back. Beyond the end: all of them.
  void release_front(std::int64_t begin) noexcept;
  /// Rows from `end` on are no longer held. Before begin(): none is left.
  void truncate(std::int64_t end) noexcept;

  /// Copies `bytes` from one place of the pages' memory to another.
  using Copy = std::function<void(std::byte* target, const std::byte* source, std::int64_t bytes)>;
  /// The same rows in pages of its own. Throws Error(out_of_memory) or what `copy` throws; nothing has changed then.
  [[nodiscard]] EntryTable fork(const Copy& copy) const;

 private:
  [[nodiscard]] std::int64_t first_page() const noexcept { return begin_ / pages_->page_rows(); }
  /// Pages up to the one that row end - 1 lies in.
  [[nodiscard]] std::int64_t pages_until(std::int64_t end) const noexcept {
    return (end + pages_->page_rows() - 1) / pages_->page_rows();
  }

  EntryPages* pages_;
  std::int64_t begin_ = 0;
  std::int64_t end_ = 0;
  std::vector<std::int32_t> ids_;
};

}  // namespace tandem::gpu
