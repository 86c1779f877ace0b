// The sketch index: coding keys, scanning codes, drawing rows. Keys and queries are normal with a falling spectrum.
#include <cmath>

#include <benchmark/benchmark.h>

#include "cpu/codec/sketch.h"
#include "lsh/sketch_index.h"
#include "numa/topology.h"
#include "runtime/base/random.h"

namespace tandem::bench {
namespace {

constexpr int kDim = 128;
constexpr int kGroup = 4;

/// One head with its codes. Warm: a benchmark that scans it again and again finds the codes in the caches.
struct CodedHead {
  CodedHead(cpu::Isa isa, int bits_per_dim, std::int64_t num_rows)
      : kernels(cpu::kernels_for(isa)), index({.bits_per_dim = bits_per_dim}, {&ledger, &pools, 0}, 0) {
    CounterRandom random(1, 0);
    std::vector<float> key(kDim), value(kDim);
    std::vector<std::byte> row(static_cast<std::size_t>(layout.row_bytes));
    store.reserve(num_rows);
    for (std::int64_t r = 0; r < num_rows; ++r) {
      for (int d = 0; d < kDim; ++d) {
        key[static_cast<std::size_t>(d)] = static_cast<float>(random.normal() * 2 / std::sqrt(1 + 0.2 * d));
        value[static_cast<std::size_t>(d)] = static_cast<float>(random.normal());
      }
      cpu::write_row(layout, DType::f32, reinterpret_cast<const std::byte*>(key.data()),
                     reinterpret_cast<const std::byte*>(value.data()), row.data());
      store.append(row.data(), 1);
    }
    queries.resize(64 * kGroup * kDim);
    for (float& q : queries) q = static_cast<float>(random.normal() * 0.2);
    observed.add(0, 64, queries.data());
  }

  const cpu::Kernels& kernels;
  numa::Topology topology = numa::Topology::detect();
  numa::MemoryLedger ledger{topology.memory_limit_bytes() / 2};
  cpu::PagePools pools{topology, ledger};
  cpu::RowLayout layout = cpu::RowLayout::of(resolved({1, kGroup, 1, kDim, kDim, 0.f, 0.f}), DType::bf16);
  cpu::KvStore store{layout, pools.of(0, layout.page_bytes())};
  lsh::QueryLog observed{kGroup, kDim, ledger};
  lsh::SketchScratch scratch;
  lsh::SketchIndex index;
  cpu::AlignedVector<float> queries;
};

void sketch_select(benchmark::State& state, cpu::Isa isa) {
  CodedHead head(isa, static_cast<int>(state.range(1)), state.range(0));
  head.index.commit(head.index.prepare(head.kernels, head.store, head.observed, head.scratch));
  cpu::Selection selection;
  std::int64_t position = state.range(0);
  std::int64_t drawn = 0;
  for (auto _ : state) {
    const cpu::QueryBlock query{head.queries.data() + position % 64 * kGroup * kDim, &position, 1, kGroup};
    head.index.select({head.kernels, head.store, query, {}, 0, 0, state.range(0)}, head.scratch, selection);
    drawn += static_cast<std::int64_t>(selection.rows.size() + selection.sampled.rows.size());
    ++position;
  }
  const double rows = static_cast<double>(state.range(0)) * static_cast<double>(state.iterations());
  state.counters["ns_per_row"] =
      benchmark::Counter(rows * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["drawn_percent"] = 100 * static_cast<double>(drawn) / rows;
}

void sketch_build(benchmark::State& state, cpu::Isa isa) {
  CodedHead head(isa, static_cast<int>(state.range(1)), state.range(0));
  head.index.commit(head.index.prepare(head.kernels, head.store, head.observed, head.scratch));
  const std::int64_t half = state.range(0) / 2;
  for (auto _ : state) {  // half of the rows with a map that is there: coding without calibration
    lsh::SketchIndex shorter = head.index.fork(half);
    benchmark::DoNotOptimize(shorter.prepare(head.kernels, head.store, head.observed, head.scratch));
  }
  const double rows = static_cast<double>(half) * static_cast<double>(state.iterations());
  state.counters["ns_per_row"] =
      benchmark::Counter(rows * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["dims"] = head.index.map()->format.num_dims;
}

void sketch_calibrate(benchmark::State& state, cpu::Isa isa) {
  CodedHead head(isa, static_cast<int>(state.range(1)), state.range(0));
  const lsh::CalibrationQueries observed{head.observed.half(false), head.observed.half(true)};
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        lsh::calibrate(head.kernels, head.store, state.range(0), static_cast<int>(state.range(1)), observed, 1));
  }
}

const bool registered = [] {
  for (const cpu::Isa isa : cpu::available_isas()) {
    const std::string name = cpu::to_string(isa);
    benchmark::RegisterBenchmark(("sketch_select/" + name).c_str(), sketch_select, isa)
        ->ArgsProduct({{8192, 32768, 131072}, {1, 2}})
        ->ArgNames({"rows", "bits"});
    benchmark::RegisterBenchmark(("sketch_build/" + name).c_str(), sketch_build, isa)
        ->ArgsProduct({{32768}, {1, 2}})
        ->ArgNames({"rows", "bits"});
    benchmark::RegisterBenchmark(("sketch_calibrate/" + name).c_str(), sketch_calibrate, isa)
        ->ArgsProduct({{32768}, {1, 2}})
        ->ArgNames({"rows", "bits"})
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace tandem::bench
