#include "bench/decode_step/memory_read.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench/read_lines.h"
#include "runtime/base/trace.h"

namespace tandem::bench {
namespace {

constexpr int kPasses = 3;
constexpr std::int64_t kRowBytes = 512, kStride = 50, kRowsAhead = 32;

/// Runs work(t) in `threads` threads, one of them this one. Returns microseconds.
template <typename Work>
double timed(int threads, Work&& work) {
  Stopwatch watch;
  {
    std::vector<std::jthread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back([&work, t] { work(t); });
    work(0);
  }
  return watch.lap_us();
}

}  // namespace

MemoryReader::MemoryReader(const numa::Topology& topology, std::int64_t bytes)
    : ledger_(bytes + (std::int64_t{4} << 20)),
      buffer_(numa::HostBuffer::on_node(topology, 0, bytes, ledger_, "a buffer larger than the caches")) {
  std::memset(buffer_.data(), 1, static_cast<std::size_t>(buffer_.bytes()));  // untouched pages are one zero page
}

double MemoryReader::read(int threads) const {
  const std::int64_t slice = buffer_.bytes() / threads / 128 * 128;
  const double us =
      timed(threads, [&](int t) { benchmark::DoNotOptimize(read_lines(buffer_.data() + t * slice, slice)); });
  return static_cast<double>(slice * threads) / (us * 1000);
}

double MemoryReader::bandwidth(int threads) const {
  double best = 0;
  for (int i = 0; i < kPasses; ++i) best = std::max(best, read(threads));
  return best;
}

double MemoryReader::scattered_bandwidth(int threads) const {
  // The first sixth: what follows it is as large as the last-level cache and is read after it.
  const std::int64_t rows = buffer_.bytes() / 6 / threads / kRowBytes / kStride;
  if (rows == 0) return bandwidth(threads);  // a buffer that is too small to tell
  double best = 0;
  for (int i = 0; i < kPasses; ++i) {
    read(1);
    const double us = timed(threads, [&](int t) {
      const auto row = [&](std::int64_t r) {
        return buffer_.data() + ((t * rows + std::min(r, rows - 1)) * kStride + i) * kRowBytes;
      };
      std::uint64_t total = 0;
      for (std::int64_t r = 0; r < std::min(rows, kRowsAhead); ++r) ask_for_row(row(r), kRowBytes);
      for (std::int64_t r = 0; r < rows; ++r) {
        ask_for_row(row(r + kRowsAhead), kRowBytes);
        total ^= read_lines(row(r), kRowBytes);
      }
      benchmark::DoNotOptimize(total);
    });
    best = std::max(best, static_cast<double>(rows * threads * kRowBytes) / (us * 1000));
  }
  return best;
}

}  // namespace tandem::bench
