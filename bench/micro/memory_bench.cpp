// The floors of everything else: one thread reads the same cold rows, all of them or some, and does nothing with them.
#include <benchmark/benchmark.h>

#include "bench/micro/cold_heads.h"
#include "tools/probes/read_lines.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kRows = 32768, kStride = 50;

void sequential_read(benchmark::State& state) {
  ColdHeads heads(128, DType::bf16, kRows);
  std::uint64_t total = 0;
  for (auto _ : state) {
    const cpu::KvStore& store = heads.next();
    for (std::int64_t r = 0; r < kRows; r += cpu::kPageRows)
      total ^= probes::read_lines(store.row(r), heads.layout().page_bytes());
    benchmark::DoNotOptimize(total);
  }
  state.SetBytesProcessed(state.iterations() * kRows * heads.layout().row_bytes);
  state.counters["per_row"] = benchmark::Counter(static_cast<double>(state.iterations() * kRows),
                                                 benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(sequential_read);

/// Every 50th row, a row at a time: what a gather of 2 % of the rows costs before anything is computed.
void gathered_read(benchmark::State& state) {
  constexpr std::int64_t kAhead = 32;  // rows
  ColdHeads heads(128, DType::bf16, kRows);
  const std::int64_t row_bytes = heads.layout().row_bytes;
  std::uint64_t total = 0;
  std::int64_t rows = 0;
  for (auto _ : state) {
    const std::int64_t first = heads.sample_offset(kStride);
    const cpu::KvStore& store = heads.next();
    for (std::int64_t r = first; r < kRows; r += kStride, ++rows) {
      probes::ask_for_row(store.row(std::min(r + kAhead * kStride, kRows - 1)), row_bytes);
      total ^= probes::read_lines(store.row(r), row_bytes);
    }
    benchmark::DoNotOptimize(total);
  }
  state.SetBytesProcessed(rows * row_bytes);
  state.counters["per_row"] =
      benchmark::Counter(static_cast<double>(rows), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(gathered_read);

}  // namespace
}  // namespace tandem::bench
