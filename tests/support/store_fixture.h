#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/kv_store.h"
#include "numa/topology.h"
#include "tests/support/reference_sequence.h"

namespace tandem::testing {

/// A store with its pool and ledger, filled row by row.
class StoreFixture {
 public:
  StoreFixture(const AttentionShape& shape, DType dtype, std::int64_t ledger_bytes = std::int64_t{1} << 32)
      : layout(cpu::RowLayout::of(shape, dtype)),
        ledger(ledger_bytes),
        pool(topology, 0, layout.page_bytes(), ledger),
        store(layout, pool) {}

  /// Appends rows of k (count, head_dim_k) and v (count, head_dim_v) to `target`.
  void append(cpu::KvStore& target, const std::vector<float>& k, const std::vector<float>& v) {
    const auto count = static_cast<std::int64_t>(k.size()) / layout.dim_k;
    std::vector<std::byte> rows(static_cast<std::size_t>(count * layout.row_bytes));
    for (std::int64_t r = 0; r < count; ++r) {
      cpu::write_row(layout, DType::f32, reinterpret_cast<const std::byte*>(k.data() + r * layout.dim_k),
                     reinterpret_cast<const std::byte*>(v.data() + r * layout.dim_v),
                     rows.data() + r * layout.row_bytes);
    }
    target.reserve(count);
    target.append(rows.data(), count);
  }
  void append(const std::vector<float>& k, const std::vector<float>& v) { append(store, k, v); }

  numa::Topology topology = numa::Topology::synthetic("node:1 core:1 pu:1");
  cpu::RowLayout layout;
  numa::MemoryLedger ledger;
  cpu::PagePool pool;
  cpu::KvStore store;
};

/// Query vectors as the kernels take them: scaled, zero-padded, aligned.
inline cpu::AlignedVector<float> padded_queries(const std::vector<float>& q, int dim, float scale) {
  const auto count = q.size() / static_cast<std::size_t>(dim);
  const auto padded = static_cast<std::size_t>(cpu::padded(dim));
  cpu::AlignedVector<float> result(count * padded, 0.f);
  for (std::size_t v = 0; v < count; ++v) {
    for (std::size_t d = 0; d < static_cast<std::size_t>(dim); ++d)
      result[v * padded + d] = scale * q[v * static_cast<std::size_t>(dim) + d];
  }
  return result;
}

inline std::vector<double> to_double(const std::vector<float>& x) { return {x.begin(), x.end()}; }

}  // namespace tandem::testing
