// SimHash tables of one KV head: bulk build and selection for a GQA group of 4, head_dim 128, 32,768 random keys; the
// layout of first light (plain) beside lsh::LshTables, with Gaussian and with Hadamard planes.
#include <map>

#include <benchmark/benchmark.h>

#include "bench/baselines/plain_tables.h"
#include "bench/micro/cold_heads.h"
#include "lsh/tables.h"

namespace tandem::bench {
namespace {

using cpu::HashPlanes;

constexpr std::int64_t kRows = 32768;
constexpr int kGroup = 4;

/// One head of random keys; the tables, not the keys, are what a selection reads.
cpu::KvStore random_head(ColdHeads& heads) {
  cpu::KvStore store = heads.all().front().fork(0);
  CounterRandom random(3, 0);
  std::vector<std::byte> row(static_cast<std::size_t>(heads.layout().row_bytes));
  std::vector<float> k(128);
  store.reserve(kRows);
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (float& x : k) x = static_cast<float>(random.normal());
    const auto* data = reinterpret_cast<const std::byte*>(k.data());
    cpu::write_row(heads.layout(), DType::f32, data, data, row.data());
    store.append(row.data(), 1);
  }
  return store;
}

/// Keys and queries of all benchmarks of this file.
struct Setup {
  static Setup& instance() {
    static Setup setup;
    return setup;
  }
  lsh::SelectRequest request() { return {kernels, store, query, logits, 0, 0, kRows}; }

  ColdHeads heads{128, DType::bf16, 64};
  cpu::KvStore store = random_head(heads);
  cpu::AlignedVector<float> q = random_queries(heads.layout(), kGroup);
  std::int64_t position = kRows;
  cpu::QueryBlock query{q.data(), &position, 1, kGroup};
  cpu::LogitRule logits;
  const cpu::Kernels& kernels = cpu::kernels_for(cpu::choose_isa(std::nullopt));
  std::vector<float> mean = std::vector<float>(static_cast<std::size_t>(heads.layout().padded_k), 0.f);
};

std::shared_ptr<const cpu::SimHash> hash_of(const lsh::LshParams& params) {
  return std::make_shared<const cpu::SimHash>(params.seed, 128, hash_params(params));
}

/// The two layouts behind one face.
struct Plain {
  explicit Plain(const lsh::LshParams& params, const std::shared_ptr<const cpu::SimHash>& hash)
      : tables(hash, params.min_collisions) {}
  void build(Setup& setup) { tables.build(setup.kernels, setup.store, setup.mean, kRows); }
  void select(Setup& setup, cpu::Selection& selection) { tables.select(setup.request(), selection); }
  PlainTables tables;
};
struct Segmented {
  explicit Segmented(const lsh::LshParams& params, const std::shared_ptr<const cpu::SimHash>& hash)
      : tables(params, hash, Setup::instance().heads.ledger()) {}
  void build(Setup& setup) {
    tables.fix_mean(setup.mean);
    tables.extend(setup.kernels, setup.store, scratch());
  }
  void select(Setup& setup, cpu::Selection& selection) { tables.select(setup.request(), scratch(), selection); }
  static lsh::TablesScratch& scratch() {
    static lsh::TablesScratch shared;
    return shared;
  }
  lsh::LshTables tables;
};

lsh::LshParams params_of(const benchmark::State& state, HashPlanes planes) {
  return {static_cast<int>(state.range(0)), static_cast<int>(state.range(1)), 2, 1, planes};
}

template <typename Tables, HashPlanes planes>
void tables_build(benchmark::State& state) {
  Setup& setup = Setup::instance();
  const lsh::LshParams params = params_of(state, planes);
  const auto hash = hash_of(params);
  std::int64_t bytes = 0;
  for (auto _ : state) {
    Tables made(params, hash);
    made.build(setup);
    bytes = made.tables.bytes();
  }
  state.counters["index_bytes_per_row"] = static_cast<double>(bytes) / kRows;
  state.counters["per_row"] = benchmark::Counter(static_cast<double>(state.iterations() * kRows),
                                                 benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// Equal tables that together exceed the last-level cache: built once, kept for every run.
template <typename Tables>
std::vector<Tables>& copies_of(const lsh::LshParams& params, std::size_t count) {
  static std::map<std::tuple<int, int, HashPlanes>, std::vector<Tables>> made;
  std::vector<Tables>& copies = made[{params.bits_per_table, params.num_tables, params.planes}];
  const auto hash = copies.empty() ? hash_of(params) : nullptr;
  copies.reserve(count);
  while (hash && copies.size() < count) {
    copies.emplace_back(params, hash);
    copies.back().build(Setup::instance());
  }
  return copies;
}

template <typename Tables, HashPlanes planes>
void tables_select(benchmark::State& state) {
  Setup& setup = Setup::instance();
  const lsh::LshParams params = params_of(state, planes);
  const bool cold = state.range(2) != 0;
  const std::int64_t bytes_of_one = kRows * params.num_tables * 2;  // at least
  const std::int64_t wanted = numa::Topology::detect().last_level_cache_bytes() * 5 / 4;
  auto& copies = copies_of<Tables>(params, static_cast<std::size_t>(wanted / bytes_of_one + 2));
  cpu::Selection selection, expected;
  Plain reference(params, hash_of(params));
  reference.build(setup);
  reference.select(setup, expected);
  std::size_t next = 0;
  for (auto _ : state) {
    copies[next].select(setup, selection);
    benchmark::DoNotOptimize(selection.rows.data());
    if (cold) next = (next + 1) % copies.size();
  }
  if (selection.rows != expected.rows || selection.head_mask != expected.head_mask) {
    state.SkipWithError("finds other rows than the plain tables");
  }
  state.counters["rows_share"] = static_cast<double>(selection.rows.size()) / kRows;
}

#define TANDEM_TABLES_BENCH(tables, planes)                     \
  BENCHMARK_TEMPLATE(tables_build, tables, HashPlanes::planes)  \
      ->ArgNames({"K", "L"})                                    \
      ->Args({10, 150})                                         \
      ->Args({8, 75})                                           \
      ->Unit(benchmark::kMillisecond);                          \
  BENCHMARK_TEMPLATE(tables_select, tables, HashPlanes::planes) \
      ->ArgNames({"K", "L", "cold"})                            \
      ->Args({10, 150, 1})                                      \
      ->Args({10, 150, 0})                                      \
      ->Unit(benchmark::kMicrosecond)

TANDEM_TABLES_BENCH(Plain, gaussian);
TANDEM_TABLES_BENCH(Segmented, gaussian);
TANDEM_TABLES_BENCH(Segmented, hadamard);

}  // namespace
}  // namespace tandem::bench
