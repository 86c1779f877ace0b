// The floors of everything else: one thread reads the same cold rows, all of them or some, and does nothing with them.
#include <cstring>

#include <benchmark/benchmark.h>

#include "bench/micro/cold_heads.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kRows = 32768, kStride = 50;

/// Folds `bytes` (a multiple of 128) into one word, with the widest loads that the processor has: four narrow ones for
/// a line reach two thirds of the bandwidth.
[[gnu::noinline]]
#if defined(__x86_64__)
[[gnu::target_clones("avx512f", "avx2", "default")]]
#endif
std::uint64_t
fold(const std::byte* data, std::int64_t bytes) {
  using Line [[gnu::vector_size(64)]] = std::uint64_t;
  Line a{}, b{};
  for (std::int64_t i = 0; i < bytes; i += 128) {
    a ^= *reinterpret_cast<const Line*>(data + i);
    b ^= *reinterpret_cast<const Line*>(data + i + 64);
  }
  a ^= b;
  std::uint64_t total = 0;
  for (int w = 0; w < 8; ++w) total ^= a[w];
  return total;
}

void sequential_read(benchmark::State& state) {
  ColdHeads heads(128, DType::bf16, kRows);
  std::uint64_t total = 0;
  for (auto _ : state) {
    const cpu::KvStore& store = heads.next();
    for (std::int64_t r = 0; r < kRows; r += cpu::kPageRows) total ^= fold(store.row(r), heads.layout().page_bytes());
    benchmark::DoNotOptimize(total);
  }
  state.SetBytesProcessed(state.iterations() * kRows * heads.layout().row_bytes);
  state.counters["per_row"] = benchmark::Counter(static_cast<double>(state.iterations() * kRows),
                                                 benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(sequential_read);

/// Every 50th row, a row at a time: what a gather of 2 % of the rows costs before anything is computed.
void gathered_read(benchmark::State& state) {
  constexpr std::int64_t kAhead = 32;  // rows; into the second-level cache, whose misses are not the few of the first
  ColdHeads heads(128, DType::bf16, kRows);
  const std::int64_t row_bytes = heads.layout().row_bytes;
  std::uint64_t total = 0;
  std::int64_t rows = 0;
  for (auto _ : state) {
    const std::int64_t first = heads.sample_offset(kStride);
    const cpu::KvStore& store = heads.next();
    for (std::int64_t r = first; r < kRows; r += kStride, ++rows) {
      const std::byte* ahead = store.row(std::min(r + kAhead * kStride, kRows - 1));
      for (std::int64_t line = 0; line < row_bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2);
      total ^= fold(store.row(r), row_bytes);
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
