#include "bench/decode_step/memory_read.h"

#include <algorithm>
#include <barrier>
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
constexpr std::int64_t kSweeps = 4;  // over the same part, each of rows far from those of the others

/// Runs work(t) in `threads` threads, one of them this one. Returns microseconds from when all have started until the
/// last one is done.
template <typename Work>
double timed(int threads, Work&& work) {
  std::barrier start(threads);
  std::barrier end(threads);
  std::vector<std::jthread> others;
  for (int t = 1; t < threads; ++t) {
    others.emplace_back([&, t] {
      start.arrive_and_wait();
      work(t);
      end.arrive_and_wait();
    });
  }
  start.arrive_and_wait();
  Stopwatch watch;
  work(0);
  end.arrive_and_wait();
  return watch.lap_us();
}

/// The same bytes as read_lines(), with each row asked for in time.
std::uint64_t read_ahead(const std::byte* data, std::int64_t bytes) {
  std::uint64_t total = 0;
  const std::int64_t last = bytes - kRowBytes;
  for (std::int64_t i = 0; i <= last; i += kRowBytes) {
    ask_for_row(data + std::min(i + kRowsAhead * kRowBytes, last), kRowBytes);
    total ^= read_lines(data + i, kRowBytes);
  }
  return total;
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
  for (int i = 0; i < kPasses; ++i) best = std::max({best, read(threads), read_asking(threads)});
  return best;
}

double MemoryReader::read_asking(int threads) const {
  const std::int64_t slice = buffer_.bytes() / threads / kRowBytes * kRowBytes;
  const double us =
      timed(threads, [&](int t) { benchmark::DoNotOptimize(read_ahead(buffer_.data() + t * slice, slice)); });
  return static_cast<double>(slice * threads) / (us * 1000);
}

double MemoryReader::scattered_bandwidth(int threads) const {
  // The first sixth: what follows it is as large as the last-level cache and is read after it.
  const std::int64_t rows = buffer_.bytes() / 6 / threads / kRowBytes / kStride;  // of one sweep of one thread
  if (rows == 0) return bandwidth(threads);                                       // a buffer that is too small to tell
  double best = 0;
  for (int i = 0; i < kPasses; ++i) {
    read(1);
    const double us = timed(threads, [&](int t) {
      const auto row = [&](std::int64_t r) {
        const std::int64_t sweep = r / rows;
        return buffer_.data() + ((t * rows + r % rows) * kStride + i + sweep * kStride / kSweeps) * kRowBytes;
      };
      std::uint64_t total = 0;
      const std::int64_t last = kSweeps * rows - 1;
      for (std::int64_t r = 0; r < std::min(last, kRowsAhead); ++r) ask_for_row(row(r), kRowBytes);
      for (std::int64_t r = 0; r <= last; ++r) {
        ask_for_row(row(std::min(r + kRowsAhead, last)), kRowBytes);
        total ^= read_lines(row(r), kRowBytes);
      }
      benchmark::DoNotOptimize(total);
    });
    best = std::max(best, static_cast<double>(kSweeps * rows * threads * kRowBytes) / (us * 1000));
  }
  return best;
}

}  // namespace tandem::bench
