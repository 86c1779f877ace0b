#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/ggml/attention_op.h"
#include "tools/ggml/settings.h"

namespace tandem::ggml {

/// A td_pool, unbound at its end; the runtime must outlive it. Move-only.
class BoundPool {
 public:
  BoundPool(td_rt* rt, const td_pool_args& args) : rt_(rt) { td::check(td_pool_bind(rt, &args, &id_)); }
  BoundPool(BoundPool&& other) noexcept : rt_(other.rt_), id_(std::exchange(other.id_, 0)) {}
  BoundPool& operator=(BoundPool&& other) noexcept {
    std::swap(rt_, other.rt_);
    std::swap(id_, other.id_);
    return *this;
  }
  BoundPool(const BoundPool&) = delete;
  BoundPool& operator=(const BoundPool&) = delete;
  ~BoundPool() {
    if (id_ != 0) td_pool_unbind(rt_, id_);
  }
  [[nodiscard]] td_pool id() const noexcept { return id_; }

 private:
  td_rt* rt_;
  td_pool id_ = 0;
};

/// K and V of one stream of an op that reads no cache: row = column.
td_pool_args pool_of_stream(const AttentionOp& op, std::int64_t stream);

/// The pools of one context's KV caches: one for each layer, bound at its first attention and for as long as the tensor
/// lies where it lies. Not thread-safe; everything throws td::Error.
class CachePools {
 public:
  explicit CachePools(const Settings& settings) : settings_(settings) {}

  /// The pool of the rows that the op reads (reads_cache()). What it holds has been compared with the cache if a cache
  /// was rewritten in place since the last call.
  td_pool pool_for(td_rt* rt, const AttentionOp& op);

  /// Rows of the cache tensor whose memory begins at `root` have new contents. Nothing to do for V, whose rows are
  /// written whenever those of K are, nor for what no attention has read yet.
  void written(const void* root, std::span<const std::int64_t> rows);

  /// Adds to totals() what the pool has learned since the last time.
  void count(td_pool pool);

 private:
  struct Entry {
    td_rt* rt;
    td_pool_args args;
    std::uint64_t rewrites;  ///< cache_rewrites() when it was last compared with the cache
    td_pool_info counted;
    BoundPool pool;
  };
  Entry& entry_for(td_rt* rt, const AttentionOp& op);

  Settings settings_;
  std::vector<Entry> entries_;
};

}  // namespace tandem::ggml
