#pragma once

#include <cstdint>
#include <vector>

namespace tandem::cli {

/// A buffer larger than the last-level cache. Reading it leaves nothing else there, as a model's weights and its other
/// layers do between two attention steps of one layer.
class CacheWash {
 public:
  /// Of 1.25 x `cache_bytes`, read by `threads` threads.
  CacheWash(std::int64_t cache_bytes, int threads);
  void operator()();

 private:
  std::vector<std::uint64_t> words_;
  int threads_;
};

}  // namespace tandem::cli
