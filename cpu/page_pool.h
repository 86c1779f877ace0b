#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "numa/host_buffer.h"

namespace tandem::cpu {

/// One page of host rows. The last owner gives it back to its pool, which must outlive it.
using PageRef = std::shared_ptr<std::byte>;

/// Pages of one size on one NUMA node, cut from large node-bound buffers so that huge pages serve them. Freed pages are
/// reused; buffers are returned when the pool ends. Thread-safe.
class PagePool {
 public:
  /// `topology` and `ledger` must outlive the pool.
  PagePool(const numa::Topology& topology, int node, std::int64_t page_bytes, numa::MemoryLedger& ledger);
  ~PagePool() = default;
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  /// A page with unspecified content, 64-byte aligned. Throws Error(out_of_memory) from the ledger.
  PageRef allocate();
  [[nodiscard]] std::int64_t page_bytes() const noexcept { return page_bytes_; }

 private:
  void add_slab();
  void give_back(std::byte* page) noexcept;

  const numa::Topology& topology_;
  const int node_;
  const std::int64_t page_bytes_;
  numa::MemoryLedger& ledger_;
  std::mutex mutex_;
  std::vector<numa::HostBuffer> slabs_;
  std::vector<std::byte*> free_;
  std::int64_t total_pages_ = 0;
};

/// One pool for each node and page size that is asked for. Thread-safe.
class PagePools {
 public:
  /// `topology` and `ledger` must outlive the pools.
  PagePools(const numa::Topology& topology, numa::MemoryLedger& ledger) : topology_(topology), ledger_(ledger) {}

  PagePool& of(int node, std::int64_t page_bytes);

 private:
  const numa::Topology& topology_;
  numa::MemoryLedger& ledger_;
  std::mutex mutex_;
  std::map<std::pair<int, std::int64_t>, PagePool> pools_;
};

}  // namespace tandem::cpu
