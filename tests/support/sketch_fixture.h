#pragma once

#include <cmath>

#include "cpu/sampled_attention.h"
#include "cpu/sparse_attention.h"
#include "lsh/estimate.h"
#include "lsh/sketch_index.h"
#include "tests/support/store_fixture.h"

namespace tandem::testing {

/// What a selection says.
struct Chosen {
  std::vector<std::uint32_t> certain, sampled;
  std::vector<float> inclusion;
  friend bool operator==(const Chosen&, const Chosen&) = default;
};

inline Chosen chosen(const cpu::Selection& s) { return {s.rows, s.sampled.rows, s.sampled.inclusion}; }

/// One head with keys of a falling spectrum, queries that favour some of them, and everything that a sketched step
/// needs. `spread` is about the standard deviation of the logits in nats.
class SketchFixture {
 public:
  SketchFixture(int head_dim, int group_size, double spread_nats, std::uint64_t seed = 1)
      : shape(resolved({1, group_size, 1, head_dim, head_dim, 0.f, 0.f})),
        rows(shape, DType::f32),
        random(seed, static_cast<std::uint64_t>(head_dim)),
        group(group_size),
        spread(spread_nats) {}

  void append(std::int64_t count, double mean = 0.7) {
    const std::int64_t dim = shape.head_dim_k;
    std::vector<float> k(static_cast<std::size_t>(count * dim)), v(k.size());
    for (std::int64_t i = 0; i < count * dim; ++i) {
      k[static_cast<std::size_t>(i)] =
          static_cast<float>(mean + random.normal() / std::sqrt(1 + 0.1 * static_cast<double>(i % dim)));
      v[static_cast<std::size_t>(i)] = static_cast<float>(0.3 + random.normal());
    }
    append(k, v);
  }
  void append(const std::vector<float>& k, const std::vector<float>& v) {
    rows.append(k, v);
    keys.insert(keys.end(), k.begin(), k.end());
    values.insert(values.end(), v.begin(), v.end());
  }
  /// A group of queries, related to each other, scaled and padded.
  cpu::AlignedVector<float> make_queries() {
    const std::int64_t dim = shape.head_dim_k;
    std::vector<float> q(static_cast<std::size_t>(group * dim));
    std::vector<double> common(static_cast<std::size_t>(dim));
    for (double& x : common) x = random.normal();
    // |q| sqrt(sum of key variances / dim) * scale is the spread.
    double variance = 0;
    for (std::int64_t d = 0; d < dim; ++d) variance += 1 / (1 + 0.1 * static_cast<double>(d));
    const double unit = spread / std::sqrt(variance) / shape.scale;
    for (std::int64_t i = 0; i < group * dim; ++i)
      q[static_cast<std::size_t>(i)] =
          static_cast<float>(unit * (0.8 * common[static_cast<std::size_t>(i % dim)] + 0.6 * random.normal()));
    return padded_queries(q, shape.head_dim_k, shape.scale);
  }
  void observe(int tokens) {
    for (int t = 0; t < tokens; ++t) {
      const auto q = make_queries();
      observed.add(next_observed++, 1, q.data());
    }
  }
  lsh::SketchIndex indexed(const lsh::SketchParams& params) {
    lsh::SketchIndex index(params, {&rows.ledger, &pools, 0}, 5);
    extend(index);
    return index;
  }
  void extend(lsh::SketchIndex& index) { index.commit(index.prepare(kernels, rows.store, observed, scratch)); }

  /// Selects for `q` at `position`, rows [begin, end) (all by default).
  const cpu::Selection& select(const lsh::SketchIndex& index, const cpu::AlignedVector<float>& q, std::int64_t position,
                               std::int64_t begin = 0, std::int64_t end = -1) {
    query_position = position;
    const cpu::QueryBlock query{q.data(), &query_position, 1, group};
    index.select({kernels, rows.store, query, logits, 0, begin, end < 0 ? rows.store.size() : end}, scratch, selection);
    return selection;
  }
  struct Estimate {
    std::vector<float> out, lse, weight, value, square;
  };
  /// Attention over the present selection.
  Estimate attend(const cpu::AlignedVector<float>& q) {
    const auto g = static_cast<std::size_t>(group);
    const auto dim = static_cast<std::size_t>(shape.head_dim_v);
    Estimate e{std::vector<float>(g * dim), std::vector<float>(g), std::vector<float>(g), std::vector<float>(g * dim),
               std::vector<float>(g)};
    std::vector<float> out(g * dim), lse(g);
    const PartialAttention exact{e.out.data(), e.lse.data(), group, shape.head_dim_v};
    const PartialAttention sampled{out.data(), lse.data(), group, shape.head_dim_v};
    const cpu::SampleSpread spread_of{e.weight.data(), e.value.data(), e.square.data()};
    query_position = rows.store.size();
    const cpu::QueryBlock query{q.data(), &query_position, 1, group};
    cpu::sparse_attention(kernels, rows.store, 0, selection, query, logits, attention, exact, spread_of);
    cpu::sampled_attention(kernels, rows.store, 0, selection.sampled, query, logits, attention, sampled, spread_of);
    lsh::join_sampled(selection, exact, sampled, spread_of);
    return e;
  }
  /// Exact attention of head h in double.
  cpu::reference::Result exact(const cpu::AlignedVector<float>& q, int h) const {
    const float* scaled = q.data() + std::ptrdiff_t{h} * rows.layout.padded_k;
    const std::vector<double> query(scaled, scaled + shape.head_dim_k);
    return cpu::reference::attention({query, to_double(keys), to_double(values), {}, 1.0, logits.softcap},
                                     shape.head_dim_v);
  }

  AttentionShape shape;
  StoreFixture rows;
  cpu::PagePools pools{rows.topology, rows.ledger};
  BackgroundThread background;  // of the tests that want one
  CounterRandom random;
  int group;
  double spread;
  lsh::QueryLog observed{group, rows.layout.padded_k, rows.ledger};
  const cpu::Kernels& kernels = cpu::kernels_for(cpu::choose_isa(std::nullopt));
  cpu::LogitRule logits;
  std::vector<float> keys, values;
  std::int64_t query_position = 0;
  std::int64_t next_observed = 0;
  lsh::SketchScratch scratch;
  cpu::AttentionScratch attention;
  cpu::Selection selection;
};

}  // namespace tandem::testing
