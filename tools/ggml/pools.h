#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/ggml/attention_op.h"
#include "tools/ggml/settings.h"

namespace tandem::ggml {

/// K and V of one stream of an op that reads no cache: row = column.
td_pool_args pool_of_stream(const AttentionOp& op, std::int64_t stream);

/// The pools of one context's KV caches: one for each layer, bound at its first attention and for as long as the tensor
/// lies where it lies. Not thread-safe; everything throws td::Error.
class CachePools {
 public:
  explicit CachePools(const Settings& settings) : settings_(settings) {}

  /// The pool of the rows that the op reads (reads_cache()). What it holds has been compared with the cache if a cache
  /// was rewritten in place since the last call.
  td_pool pool_for(const td::Runtime& runtime, const AttentionOp& op);

  /// Rows of the K cache whose memory begins at `root` have new contents. Nothing to do for what no attention has read
  /// yet.
  void written(const void* root, std::span<const std::int64_t> rows);

  /// Adds to totals() what the pool has learned since the last time.
  void count(td_pool pool);

 private:
  struct Entry {
    const td_rt* rt;
    td_pool_args args;
    std::uint64_t rewrites;  ///< cache_rewrites() when it was last compared with the cache
    td_pool_info counted;
    td::Pool pool;  ///< its runtime must outlive it
  };
  Entry& entry_for(const td::Runtime& runtime, const AttentionOp& op);

  Settings settings_;
  std::vector<Entry> entries_;
};

}  // namespace tandem::ggml
