#include "tools/ggml/totals.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

namespace tandem::ggml {
namespace {

constexpr double kBytesPerMib = 1024.0 * 1024.0;

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

void Totals::add_call(const td_stats& stats, std::int64_t num_queries, bool retried) {
  const std::lock_guard lock(mutex_);
  ++sums_.calls;
  sums_.queries += num_queries;
  sums_.retried += retried ? 1 : 0;
  sums_.rows_window += stats.rows_window;
  sums_.rows_host += stats.rows_host;
  sums_.rows_gathered += stats.rows_gathered;
  sums_.kv_bytes += std::accumulate(stats.bytes, stats.bytes + TD_N_STAGES, std::int64_t{0});
  sums_.us += stats.total_us;
  if (stats.out_error < 0) return;  // no estimate
  ++sums_.calls_with_error;
  sums_.error += stats.out_error;
  sums_.uncertified += stats.uncertified;
}

void Totals::add_change(const td_pool_info& before, const td_pool_info& now) {
  const std::lock_guard lock(mutex_);
  sums_.indexed_rows += now.indexed_rows - before.indexed_rows;
  sums_.index_bytes += now.index_bytes - before.index_bytes;
  sums_.rows_reindexed += now.rows_reindexed - before.rows_reindexed;
  sums_.rows_found += now.rows_found - before.rows_found;
}

void Totals::print() const {
  const std::lock_guard lock(mutex_);
  const Sums& s = sums_;
  const auto visible = static_cast<double>(s.rows_window + s.rows_host);
  const auto attended = static_cast<double>(s.rows_window + s.rows_gathered);
  const auto calls = static_cast<double>(std::max<std::int64_t>(s.calls, 1));
  std::fprintf(stderr, "tandem-ggml: statistics\n");
  std::fprintf(stderr, "  calls (layers x steps)    %12lld   %.1f us each\n", static_cast<long long>(s.calls),
               s.us / calls);
  std::fprintf(stderr, "  queries                   %12lld\n", static_cast<long long>(s.queries));
  std::fprintf(stderr, "  rows visible              %12.0f   summed over queries and KV heads\n", visible);
  std::fprintf(stderr, "  rows attended             %12.0f   %.2f %%\n", attended, 100 * share(attended, visible));
  std::fprintf(stderr, "  K and V read              %12.1f   MiB\n", static_cast<double>(s.kv_bytes) / kBytesPerMib);
  std::fprintf(stderr, "  estimated error           %12.4f   mean of %lld calls, 0 where exact\n",
               share(s.error, static_cast<double>(s.calls_with_error)), static_cast<long long>(s.calls_with_error));
  std::fprintf(stderr, "  estimates not certified   %12lld\n", static_cast<long long>(s.uncertified));
  std::fprintf(stderr, "  computed exactly instead  %12lld\n", static_cast<long long>(s.retried));
  std::fprintf(stderr, "  rows indexed              %12lld   %.1f MiB\n", static_cast<long long>(s.indexed_rows),
               static_cast<double>(s.index_bytes) / kBytesPerMib);
  std::fprintf(stderr, "  rows indexed anew         %12lld   %lld of them found by fingerprints\n",
               static_cast<long long>(s.rows_reindexed), static_cast<long long>(s.rows_found));
}

Totals& totals() {
  static Totals value;
  return value;
}

void print_totals_at_exit() {
  totals();  // made before the function is registered, so that it ends after the function has run
  static const int registered = std::atexit([] { totals().print(); });  // once, however often the plugin is loaded
  static_cast<void>(registered);
}

}  // namespace tandem::ggml
