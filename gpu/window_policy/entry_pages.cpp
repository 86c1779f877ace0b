#include "gpu/window_policy/entry_pages.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

#include "runtime/base/error.h"

namespace tandem::gpu {

EntryPages::EntryPages(std::byte* memory, std::int64_t row_bytes, std::int32_t num_pages, std::int32_t page_rows)
    : memory_(memory), row_bytes_(row_bytes), num_pages_(num_pages), page_rows_(page_rows) {
  TANDEM_CHECK(row_bytes >= 1, invalid_argument, "row_bytes is ", row_bytes, "; allowed: from 1");
  TANDEM_CHECK(num_pages >= 0, invalid_argument, "num_pages is ", num_pages, "; allowed: from 0");
  TANDEM_CHECK(page_rows >= 1, invalid_argument, "page_rows is ", page_rows, "; allowed: from 1");
  free_.resize(static_cast<std::size_t>(num_pages));
  for (std::int32_t i = 0; i < num_pages; ++i) free_[static_cast<std::size_t>(i)] = num_pages - 1 - i;
}

std::int32_t EntryPages::free_pages() const noexcept {
  const std::lock_guard lock(mutex_);
  return static_cast<std::int32_t>(free_.size());
}

void EntryPages::take(std::int64_t count, std::vector<std::int32_t>& ids) {
  const std::lock_guard lock(mutex_);
  TANDEM_CHECK(count <= static_cast<std::int64_t>(free_.size()), out_of_memory, count, " more pages of ", page_rows_,
               " entries (", row_bytes_, " bytes each) are needed; ", free_.size(), " of ", num_pages_, " are free");
  const auto first = free_.end() - count;
  ids.insert(ids.end(), std::make_reverse_iterator(free_.end()), std::make_reverse_iterator(first));
  free_.erase(first, free_.end());
}

void EntryPages::give_back(std::span<const std::int32_t> ids) noexcept {
  const std::lock_guard lock(mutex_);
  free_.insert(free_.end(), ids.begin(), ids.end());  // never reallocates: there was room for every page at the start
}

EntryTable::EntryTable(EntryTable&& other) noexcept
    : pages_(other.pages_),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)),
      ids_(std::exchange(other.ids_, {})) {}

EntryTable& EntryTable::operator=(EntryTable&& other) noexcept {
  std::swap(pages_, other.pages_);
  std::swap(begin_, other.begin_);
  std::swap(end_, other.end_);
  std::swap(ids_, other.ids_);
  return *this;
}

std::byte* EntryTable::row(std::int64_t i) const noexcept {
  assert(begin_ <= i && i < end_);
  const std::int64_t page = i / pages_->page_rows() - first_page();
  return pages_->page(ids_[static_cast<std::size_t>(page)]) + i % pages_->page_rows() * pages_->row_bytes();
}

void EntryTable::append(std::int64_t count) {
  TANDEM_CHECK(count >= 0, invalid_argument, "count is ", count, "; allowed: from 0");
  const std::int64_t pages = pages_until(end_ + count) - first_page();
  const auto held = static_cast<std::int64_t>(ids_.size());
  if (count > 0 && pages > held) pages_->take(pages - held, ids_);
  end_ += count;
}

void EntryTable::release_front(std::int64_t begin) noexcept {
  const std::int64_t before = first_page();
  begin_ = std::clamp(begin, begin_, end_);
  const std::int64_t pages = begin_ == end_ ? static_cast<std::int64_t>(ids_.size()) : first_page() - before;
  pages_->give_back(std::span(ids_).first(static_cast<std::size_t>(pages)));
  ids_.erase(ids_.begin(), ids_.begin() + pages);
}

void EntryTable::truncate(std::int64_t end) noexcept {
  end_ = std::clamp(end, begin_, end_);
  const std::int64_t pages = begin_ == end_ ? 0 : pages_until(end_) - first_page();
  pages_->give_back(std::span(ids_).subspan(static_cast<std::size_t>(pages)));
  ids_.resize(static_cast<std::size_t>(pages));
}

EntryTable EntryTable::fork(const Copy& copy) const {
  EntryTable table(*pages_);
  pages_->take(static_cast<std::int64_t>(ids_.size()), table.ids_);
  table.begin_ = begin_;
  table.end_ = end_;
  for (std::int64_t i = begin_; i < end_;) {
    const std::int64_t last = std::min(end_, (i / pages_->page_rows() + 1) * pages_->page_rows());
    copy(table.row(i), row(i), (last - i) * pages_->row_bytes());
    i = last;
  }
  return table;
}

}  // namespace tandem::gpu
