#pragma once

#include <optional>

#include "lsh/selector.h"
#include "tests/support/store_fixture.h"

namespace tandem::testing {

/// One head's store, keys and queries, and selections from it.
class IndexFixture {
 public:
  IndexFixture(int head_dim, int group, std::uint64_t seed = 1)
      : shape(resolved({1, group, 1, head_dim, head_dim, 0.f, 0.f})), rows(shape, DType::f32), random(seed, 99) {}

  /// Keys around a common offset, with the head's own spread: like post-RoPE keys, far from centred.
  std::vector<float> random_keys(std::int64_t count, double offset = 0.5) {
    auto k = representable_normals(random, count * shape.head_dim_k, DType::f32);
    for (float& x : k) x += static_cast<float>(offset);
    return k;
  }
  void append(const std::vector<float>& k) {
    keys.insert(keys.end(), k.begin(), k.end());
    rows.append(k, std::vector<float>(k.size(), 1.f));
  }
  std::vector<float> random_queries() {
    return representable_normals(random, std::int64_t{shape.num_q_heads} * shape.head_dim_k, DType::f32);
  }

  /// Selects for `q` (group, head_dim) among the rows [begin, end) (all by default).
  cpu::Selection& select(const lsh::HeadIndex& index, const std::vector<float>& q, std::int64_t begin = 0,
                         std::optional<std::int64_t> end = std::nullopt, const cpu::LogitRule& logits = {}) {
    scaled = padded_queries(q, shape.head_dim_k, shape.scale);
    position = rows.store.size();
    query = {scaled.data(), &position, 1, shape.num_q_heads};
    index.select({kernels, rows.store, query, logits, 0, begin, end.value_or(rows.store.size())}, scratch, selection);
    return selection;
  }
  lsh::HeadIndex empty(const lsh::Selector& selector) { return {selector, {&rows.ledger, &pools, 0}, 7}; }
  lsh::HeadIndex indexed(const lsh::Selector& selector) {
    lsh::HeadIndex index = empty(selector);
    index.extend(kernels, rows.store, observed, scratch);
    return index;
  }

  AttentionShape shape;
  StoreFixture rows;
  cpu::PagePools pools{rows.topology, rows.ledger};
  lsh::QueryLog observed{shape.num_q_heads, rows.layout.padded_k, rows.ledger};
  CounterRandom random;
  const cpu::Kernels& kernels = cpu::kernels_for(cpu::choose_isa(std::nullopt));
  std::vector<float> keys;
  cpu::AlignedVector<float> scaled;
  std::int64_t position = 0;
  cpu::QueryBlock query;
  lsh::SelectScratch scratch;
  cpu::Selection selection;
};

}  // namespace tandem::testing
