#include "tools/probes/memory_reader.h"

#include <algorithm>
#include <cstring>

#include "tools/probes/read_lines.h"
#include "tools/probes/team.h"

namespace tandem::probes {
namespace {

constexpr int kPasses = 3;
constexpr std::int64_t kSliceBytes = 2048;
constexpr std::int64_t kRowBytes = 512, kStride = 50, kRowsAhead = 32;
constexpr std::int64_t kSweeps = 4;  // over the same part, each of rows far from those of the others

}  // namespace

MemoryReader::MemoryReader(const numa::Topology& topology, std::int64_t bytes)
    : ledger_(bytes + (std::int64_t{4} << 20)),
      buffer_(numa::HostBuffer::on_node(topology, 0, bytes, ledger_, "a buffer larger than the caches")) {
  std::memset(buffer_.data(), 1, static_cast<std::size_t>(buffer_.bytes()));  // untouched pages are one zero page
}

template <typename Work>
double MemoryReader::swept(int threads, const Work& work) const {
  const std::int64_t slice = buffer_.bytes() / threads / kSliceBytes * kSliceBytes;
  const double us = Team(threads).run([&](int t) { keep(work(buffer_.data() + t * slice, slice)); });
  return static_cast<double>(slice * threads) / (us * 1000);
}

double MemoryReader::read(int threads) const { return swept(threads, read_lines); }

double MemoryReader::bandwidth(int threads) const {
  double best = 0;
  for (int i = 0; i < kPasses; ++i)
    best = std::max({best, read(threads), swept(threads, read_asking_ahead), swept(threads, read_interleaved)});
  return best;
}

double MemoryReader::scattered_bandwidth(int threads) const {
  // The first sixth: what follows it is as large as the last-level cache and is read after it.
  const std::int64_t rows = buffer_.bytes() / 6 / threads / kRowBytes / kStride;  // of one sweep of one thread
  if (rows == 0) return bandwidth(threads);                                       // a buffer that is too small to tell
  double best = 0;
  for (int i = 0; i < kPasses; ++i) {
    read(1);
    const double us = Team(threads).run([&](int t) {
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
      keep(total);
    });
    best = std::max(best, static_cast<double>(kSweeps * rows * threads * kRowBytes) / (us * 1000));
  }
  return best;
}

}  // namespace tandem::probes
