// LshTables of one KV head: bulk build and selection for a GQA group of 4, head_dim 128, 32,768 random keys.
#include <benchmark/benchmark.h>

#include "bench/micro/cold_heads.h"
#include "lsh/tables.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kRows = 32768;

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

struct Setup {
  Setup(int bits, int tables)
      : heads(128, DType::bf16, 64),
        params{bits, tables, 2, 1},
        hash(std::make_shared<const cpu::SimHash>(1, 128, bits, tables)),
        store(random_head(heads)) {}
  ColdHeads heads;
  lsh::LshParams params;
  std::shared_ptr<const cpu::SimHash> hash;
  cpu::KvStore store;
  const cpu::Kernels& kernels = cpu::kernels_for(cpu::choose_isa(std::nullopt));
};

void tables_build(benchmark::State& state) {
  Setup setup(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  lsh::TablesScratch scratch;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    lsh::LshTables tables(setup.params, setup.hash, setup.heads.ledger());
    tables.extend(setup.kernels, setup.store, scratch);
    bytes = tables.bytes();
  }
  state.counters["index_bytes_per_row"] = static_cast<double>(bytes) / kRows;
  state.counters["per_row"] = benchmark::Counter(static_cast<double>(state.iterations() * kRows),
                                                 benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(tables_build)->Args({10, 150})->Args({9, 120})->Args({8, 75})->Unit(benchmark::kMillisecond);

void tables_select(benchmark::State& state) {
  Setup setup(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  lsh::TablesScratch scratch;
  lsh::LshTables tables(setup.params, setup.hash, setup.heads.ledger());
  tables.extend(setup.kernels, setup.store, scratch);
  const auto q = random_queries(setup.heads.layout(), 4);
  const std::int64_t position = kRows;
  const cpu::QueryBlock query{q.data(), &position, 1, 4};
  const cpu::LogitRule logits;
  cpu::Selection selection;
  for (auto _ : state) {
    tables.select({setup.kernels, setup.store, query, logits, 0, 0, kRows}, scratch, selection);
    benchmark::DoNotOptimize(selection.rows.data());
  }
  state.counters["rows_share"] = static_cast<double>(selection.rows.size()) / kRows;
}
BENCHMARK(tables_select)->Args({10, 150})->Args({9, 120})->Args({8, 75})->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tandem::bench
