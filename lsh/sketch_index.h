#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/page_pool.h"
#include "cpu/selection.h"
#include "lsh/query_log.h"
#include "lsh/select_request.h"
#include "lsh/sketch_map.h"
#include "lsh/sketch_sampling.h"
#include "numa/memory_ledger.h"

namespace tandem::lsh {

/// Codes of the rows of one (sequence, layer, kv_head), and the map that they were made with.
///
/// There is no index, and every step is dense, until the store has kFewestRows rows and kFewestObserved queries have
/// been seen; then a map is fitted and all rows are coded. Later rows are coded with the same map, so one by one equals
/// in bulk. Full pages of codes are immutable and shared by forks. Not thread-safe.
class SketchIndex {
 public:
  static constexpr std::int64_t kFewestRows = 1024;
  static constexpr std::int64_t kFewestObserved = 64;
  /// Rows of one page of codes.
  static constexpr std::int64_t kPageRows = 32 * cpu::kSketchBlockRows;

  /// `stream` tells this head's random numbers from those of other heads. `memory` must outlive the index.
  SketchIndex(const SketchParams& params, const IndexMemory& memory, std::uint64_t stream)
      : params_(params), memory_(memory), stream_(stream) {}

  [[nodiscard]] bool lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept;

  /// The state after coding some rows, on the side until commit().
  class Extension {
    friend class SketchIndex;
    std::shared_ptr<const SketchMap> map;
    std::vector<cpu::PageRef> pages;
    std::int64_t size = 0;
    numa::Reservation map_memory;
  };
  /// Codes rows [size(), store.size()) without a change. Throws Error(out_of_memory).
  [[nodiscard]] Extension prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                                  SketchScratch& scratch) const;
  void commit(Extension&& extension) noexcept;
  /// An index of the first min(size, size()) rows. Throws Error(out_of_memory).
  [[nodiscard]] SketchIndex fork(std::int64_t size) const;

  /// Selects among rows [request.begin, request.end) for about `budget` of them; all of them when there is no index.
  void select(const SelectRequest& request, SketchScratch& scratch, cpu::Selection& selection) const;

  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  [[nodiscard]] std::int64_t bytes() const noexcept;
  [[nodiscard]] const SketchMap* map() const noexcept { return map_.get(); }

 private:
  [[nodiscard]] std::int64_t page_bytes() const noexcept { return page_bytes(*map_); }
  [[nodiscard]] static std::int64_t page_bytes(const SketchMap& map) noexcept {
    return kPageRows / cpu::kSketchBlockRows * map.format.block_bytes();
  }

  SketchParams params_;
  IndexMemory memory_;
  std::uint64_t stream_;
  std::shared_ptr<const SketchMap> map_;  // null: no index yet
  std::vector<cpu::PageRef> pages_;
  std::int64_t size_ = 0;
  numa::Reservation map_memory_;
};

}  // namespace tandem::lsh
