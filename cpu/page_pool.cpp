#include "cpu/page_pool.h"

#include <algorithm>

namespace tandem::cpu {
namespace {

// Slabs grow with the pool: a small sequence takes little, a large one gets whole huge pages.
constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
constexpr std::int64_t kLargestSlab = std::int64_t{32} << 20;

}  // namespace

PagePool::PagePool(const numa::Topology& topology, int node, std::int64_t page_bytes, numa::MemoryLedger& ledger)
    : topology_(topology), node_(node), page_bytes_(page_bytes), ledger_(ledger) {}

PageRef PagePool::allocate() {
  std::byte* page = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) add_slab();
    page = free_.back();
    free_.pop_back();
  }
  // Outside the lock: when there is no memory for the reference itself, its deleter runs at once.
  return {page, [this](std::byte* p) { give_back(p); }};
}

void PagePool::add_slab() {
  const std::int64_t doubling = kHugePage << std::min<std::size_t>(slabs_.size(), 4);
  const std::int64_t wanted = std::max(std::min(doubling, kLargestSlab), page_bytes_);
  const std::int64_t pages = wanted / page_bytes_;
  slabs_.reserve(slabs_.size() + 1);
  free_.reserve(static_cast<std::size_t>(total_pages_ + pages));
  auto slab = numa::HostBuffer::on_node(topology_, node_, pages * page_bytes_, ledger_, "pages of the host store");
  total_pages_ += pages;
  for (std::int64_t i = pages - 1; i >= 0; --i) free_.push_back(slab.data() + i * page_bytes_);
  slabs_.push_back(std::move(slab));
}

void PagePool::give_back(std::byte* page) noexcept {
  const std::lock_guard lock(mutex_);
  free_.push_back(page);  // never reallocates: add_slab reserved room for every page of the pool
}

PagePool& PagePools::of(int node, std::int64_t page_bytes) {
  const std::lock_guard lock(mutex_);
  const std::pair key(node, page_bytes);
  return pools_.try_emplace(key, topology_, node, page_bytes, ledger_).first->second;
}

}  // namespace tandem::cpu
