// The floor of everything else: one thread reads the same cold rows and does nothing with them.
#include <cstring>

#include <benchmark/benchmark.h>

#include "bench/micro/cold_heads.h"

namespace tandem::bench {
namespace {

void sequential_read(benchmark::State& state) {
  constexpr std::int64_t kRows = 32768;
  ColdHeads heads(128, DType::bf16, kRows);
  const std::int64_t page_bytes = heads.layout().page_bytes();
  std::uint64_t sums[8] = {};
  for (auto _ : state) {
    const cpu::KvStore& store = heads.next();
    for (std::int64_t r = 0; r < kRows; r += cpu::kPageRows) {
      const std::byte* page = store.row(r);
      for (std::int64_t i = 0; i < page_bytes; i += 64) {
        std::uint64_t line[8];
        std::memcpy(line, page + i, sizeof(line));
        for (int w = 0; w < 8; ++w) sums[w] ^= line[w];
      }
    }
    benchmark::DoNotOptimize(sums);
  }
  state.SetBytesProcessed(state.iterations() * kRows * heads.layout().row_bytes);
}
BENCHMARK(sequential_read);

}  // namespace
}  // namespace tandem::bench
