#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/kv_store.h"
#include "numa/topology.h"
#include "runtime/base/random.h"

namespace tandem::bench {

/// Stores of equal heads that together exceed the last-level cache: next() hands them out in turn, so that what a
/// benchmark reads was last touched a whole cache ago.
class ColdHeads {
 public:
  ColdHeads(int head_dim, DType dtype, std::int64_t rows_per_head)
      : topology_(numa::Topology::detect()),
        ledger_(topology_.memory_limit_bytes() / 2),
        layout_(cpu::RowLayout::of(resolved({1, 1, 1, head_dim, head_dim, 0.f, 0.f}), dtype)),
        pool_(topology_, 0, layout_.page_bytes(), ledger_) {
    const std::int64_t wanted =
        std::max<std::int64_t>(topology_.last_level_cache_bytes() * 5 / 4, std::int64_t{64} << 20);
    const std::int64_t heads = wanted / (rows_per_head * layout_.row_bytes) + 2;
    for (std::int64_t h = 0; h < heads; ++h) heads_.push_back(make_head(rows_per_head, static_cast<std::uint64_t>(h)));
  }

  const cpu::KvStore& next() { return heads_[next_++ % heads_.size()]; }
  /// Where a sample of every `stride`-th row of next() starts: another place each time around, or the rows that all
  /// heads give would fit into the cache together.
  [[nodiscard]] std::int64_t sample_offset(std::int64_t stride) const noexcept {
    return static_cast<std::int64_t>(next_ / heads_.size()) * 7 % stride;
  }
  [[nodiscard]] const std::vector<cpu::KvStore>& all() const noexcept { return heads_; }
  [[nodiscard]] const cpu::RowLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] numa::MemoryLedger& ledger() noexcept { return ledger_; }

 private:
  /// Normal values would take minutes for this many rows: one page of them, repeated.
  cpu::KvStore make_head(std::int64_t rows, std::uint64_t seed) {
    CounterRandom random(1, seed);
    std::vector<std::byte> page(static_cast<std::size_t>(layout_.page_bytes()));
    std::vector<float> k(static_cast<std::size_t>(layout_.dim_k)), v(static_cast<std::size_t>(layout_.dim_v));
    for (int r = 0; r < cpu::kPageRows; ++r) {
      for (float& x : k) x = static_cast<float>(random.normal());
      for (float& x : v) x = static_cast<float>(random.normal());
      cpu::write_row(layout_, DType::f32, reinterpret_cast<const std::byte*>(k.data()),
                     reinterpret_cast<const std::byte*>(v.data()), page.data() + r * layout_.row_bytes);
    }
    cpu::KvStore store(layout_, pool_);
    store.reserve(rows);
    for (std::int64_t r = 0; r < rows; r += cpu::kPageRows) {
      store.append(page.data(), std::min<std::int64_t>(cpu::kPageRows, rows - r));
    }
    return store;
  }

  numa::Topology topology_;
  numa::MemoryLedger ledger_;
  cpu::RowLayout layout_;
  cpu::PagePool pool_;
  std::vector<cpu::KvStore> heads_;
  std::size_t next_ = 0;
};

/// Query vectors (group, padded_k) of the stores' shape.
inline cpu::AlignedVector<float> random_queries(const cpu::RowLayout& layout, int group) {
  CounterRandom random(2, 0);
  cpu::AlignedVector<float> q(static_cast<std::size_t>(group * layout.padded_k), 0.f);
  for (int h = 0; h < group; ++h) {
    for (int d = 0; d < layout.dim_k; ++d)
      q[static_cast<std::size_t>(h * layout.padded_k + d)] = static_cast<float>(random.normal() / 11.0);
  }
  return q;
}

}  // namespace tandem::bench
