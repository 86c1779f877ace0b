#include "bench/decode_step/memory_read.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "runtime/base/trace.h"

namespace tandem::bench {
namespace {

/// Folds every cache line of [begin, end) into eight sums, so that no read can be left out.
void read_lines(const std::byte* begin, const std::byte* end) {
  std::uint64_t sums[8] = {};
  for (const std::byte* line = begin; line + 64 <= end; line += 64) {
    std::uint64_t words[8];
    std::memcpy(words, line, sizeof(words));
    for (int w = 0; w < 8; ++w) sums[w] ^= words[w];
  }
  benchmark::DoNotOptimize(sums);
}

}  // namespace

MemoryReader::MemoryReader(const numa::Topology& topology, std::int64_t bytes)
    : ledger_(bytes + (std::int64_t{4} << 20)),
      buffer_(numa::HostBuffer::on_node(topology, 0, bytes, ledger_, "a buffer larger than the caches")) {
  std::memset(buffer_.data(), 1, static_cast<std::size_t>(buffer_.bytes()));  // untouched pages are one zero page
}

double MemoryReader::read(int threads) const {
  const std::int64_t slice = buffer_.bytes() / threads / 64 * 64;
  Stopwatch watch;
  {
    std::vector<std::jthread> readers;
    for (int t = 1; t < threads; ++t)
      readers.emplace_back([=, data = buffer_.data()] { read_lines(data + t * slice, data + (t + 1) * slice); });
    read_lines(buffer_.data(), buffer_.data() + slice);
  }
  return static_cast<double>(slice * threads) / (watch.lap_us() * 1000);
}

double MemoryReader::bandwidth(int threads, int passes) const {
  double best = 0;
  for (int i = 0; i < passes; ++i) best = std::max(best, read(threads));
  return best;
}

}  // namespace tandem::bench
