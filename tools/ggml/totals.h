#pragma once

#include <cstdint>
#include <mutex>

#include "tandem/tandem.h"

namespace tandem::ggml {

/// What TANDEM_STATS=1 prints: sums over all contexts of the process. Thread-safe.
class Totals {
 public:
  /// A td_attend_rows call for queries of any number of streams; `retried`: exactly, because the selector failed.
  void add_call(const td_stats& stats, std::int64_t num_queries, bool retried);

  /// What a pool has learned from one td_pool_query to the next.
  void add_change(const td_pool_info& before, const td_pool_info& now);

  /// A table on stderr, also when nothing was ever computed here: that is what somebody who asks for it wants to know.
  void print() const;

 private:
  struct Sums {
    std::int64_t calls = 0, queries = 0, retried = 0;
    std::int64_t rows_window = 0, rows_host = 0, rows_gathered = 0, kv_bytes = 0;
    std::int64_t calls_with_error = 0, uncertified = 0;
    double error = 0, us = 0;
    std::int64_t indexed_rows = 0, index_bytes = 0, rows_reindexed = 0, rows_found = 0;
  };
  mutable std::mutex mutex_;
  Sums sums_;
};

/// Those of this process.
Totals& totals();

/// They are printed when the plugin is unloaded or the process exits.
void print_totals_at_exit();

}  // namespace tandem::ggml
