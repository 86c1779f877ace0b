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

void KvStore::reserve(std::int64_t rows) {
  const std::size_t wanted = pages_for(size_ + rows);
  const std::size_t had = pages_.size();
  try {
    while (pages_.size() < wanted) pages_.push_back(pool_->allocate());
  } catch (...) {
    pages_.resize(had);
    throw;
  }
}

void KvStore::append(const std::byte* rows, std::int64_t count) noexcept {
  assert(pages_for(size_ + count) <= pages_.size());
  while (count > 0) {
    const std::int64_t in_page = size_ % kPageRows;
    const std::int64_t n = std::min(count, kPageRows - in_page);
    std::byte* page = pages_[static_cast<std::size_t>(size_ / kPageRows)].get();
    std::memcpy(page + in_page * layout_.row_bytes, rows, static_cast<std::size_t>(n * layout_.row_bytes));
    rows += n * layout_.row_bytes;
    size_ += n;
    count -= n;
  }
}

KvStore KvStore::fork(std::int64_t size) const {
  assert(size <= size_);
  KvStore copy(layout_, *pool_);
  const auto full_pages = static_cast<std::size_t>(size / kPageRows);
  copy.pages_.assign(pages_.begin(), pages_.begin() + static_cast<std::ptrdiff_t>(full_pages));
  copy.size_ = size / kPageRows * kPageRows;
  const std::int64_t rest = size % kPageRows;
  if (rest > 0) {
    copy.reserve(rest);
    copy.append(pages_[full_pages].get(), rest);
  }
  return copy;
}

}  // namespace tandem::cpu
