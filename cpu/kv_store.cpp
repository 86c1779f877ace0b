#include "cpu/kv_store.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace tandem::cpu {
namespace {

std::size_t pages_for(std::int64_t rows) noexcept {
  return static_cast<std::size_t>((rows + kPageRows - 1) / kPageRows);
}

}  // namespace

void KvStore::rows(std::int64_t first, std::int64_t count, const std::byte** pointers) const noexcept {
  for (std::int64_t begin = first; begin < first + count;) {
    const std::int64_t end = is_borrowed() ? begin + 1 : std::min(first + count, (begin / kPageRows + 1) * kPageRows);
    const std::byte* next = row(begin);
    for (; begin < end; ++begin, next += layout_.row_bytes) *pointers++ = next;
  }
}

void KvStore::reserve(std::int64_t rows) {
  const std::size_t wanted = pages_for(stored_ + rows);
  const std::size_t had = pages_.size();
  try {
    while (pages_.size() < wanted) pages_.push_back(pool_->allocate());
  } catch (...) {
    pages_.resize(had);
    throw;
  }
}

void KvStore::store(const std::byte* rows, std::int64_t count) noexcept {
  assert(pages_for(stored_ + count) <= pages_.size());
  while (count > 0) {
    const std::int64_t in_page = stored_ % kPageRows;
    const std::int64_t n = std::min(count, kPageRows - in_page);
    std::byte* page = pages_[static_cast<std::size_t>(stored_ / kPageRows)].get();
    std::memcpy(page + in_page * layout_.row_bytes, rows, static_cast<std::size_t>(n * layout_.row_bytes));
    rows += n * layout_.row_bytes;
    stored_ += n;
    count -= n;
  }
}

void KvStore::publish(std::int64_t size) noexcept {
  assert(size >= size_ && size <= stored_);
  size_ = size;
}

KvStore KvStore::fork(std::int64_t size, std::int64_t stored) const {
  assert(size <= stored && stored <= stored_);
  if (is_borrowed()) {
    KvStore copy(layout_, borrowed_);
    copy.borrow_up_to(stored);
    copy.publish(size);
    return copy;
  }
  KvStore copy(layout_, *pool_);
  const auto full_pages = static_cast<std::size_t>(stored / kPageRows);
  copy.pages_.assign(pages_.begin(), pages_.begin() + static_cast<std::ptrdiff_t>(full_pages));
  copy.stored_ = stored / kPageRows * kPageRows;
  const std::int64_t rest = stored % kPageRows;
  if (rest > 0) {
    copy.reserve(rest);
    copy.store(pages_[full_pages].get(), rest);
  }
  copy.publish(size);
  return copy;
}

}  // namespace tandem::cpu
