#include "tools/tandem/cache_wash.h"

#include <algorithm>
#include <thread>

namespace tandem::cli {

CacheWash::CacheWash(std::int64_t cache_bytes, int threads)
    : words_(static_cast<std::size_t>((cache_bytes + cache_bytes / 4) / 8), 1), threads_(std::max(1, threads)) {}

void CacheWash::operator()() {
  const std::size_t slice = words_.size() / static_cast<std::size_t>(threads_);
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(threads_));
  {
    std::vector<std::jthread> readers;
    for (std::size_t t = 0; t < sums.size(); ++t) {
      readers.emplace_back([&, t] {
        std::uint64_t sum = 0;
        for (std::size_t i = t * slice; i < (t + 1) * slice; ++i) sum += words_[i];
        sums[t] = sum;
      });
    }
  }
  if (words_.empty()) return;
  for (const std::uint64_t sum : sums) words_[0] += sum;  // so that no read can be left out
}

}  // namespace tandem::cli
