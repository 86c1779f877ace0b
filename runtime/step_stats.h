#pragma once

#include <cstdint>

#include "runtime/base/trace.h"

namespace tandem {

/// What one append or attend call did. Sums over queries and heads as stated in td_stats.
struct StepStats {
  StageTrace trace;
  double total_us = 0;
  std::int64_t rows_window = 0;
  std::int64_t rows_host = 0;
  std::int64_t rows_gathered = 0;
  std::int64_t keys_attended = 0;
  std::int64_t keys_visible = 0;
  double lse_error = 0;  ///< -1: the selector gives no estimate
  double out_error = 0;  ///< likewise
  std::int64_t uncertified = 0;
  std::int64_t rows_dropped = 0;
  std::int64_t bytes_streamed = 0;

  StepStats& operator+=(const StepStats& other) noexcept;
};

/// The counts, times and estimates of StepStats beside its trace, each with the field of the same name of `other`
/// (a StepStats, or a td_stats): visit(stats.total_us, other.total_us) and so on.
template <typename Stats, typename Other, typename Visit>
void for_each_figure(Stats& stats, Other& other, const Visit& visit) {
  visit(stats.total_us, other.total_us);
  visit(stats.rows_window, other.rows_window);
  visit(stats.rows_host, other.rows_host);
  visit(stats.rows_gathered, other.rows_gathered);
  visit(stats.keys_attended, other.keys_attended);
  visit(stats.keys_visible, other.keys_visible);
  visit(stats.lse_error, other.lse_error);
  visit(stats.out_error, other.out_error);
  visit(stats.uncertified, other.uncertified);
  visit(stats.rows_dropped, other.rows_dropped);
  visit(stats.bytes_streamed, other.bytes_streamed);
}

inline StepStats& StepStats::operator+=(const StepStats& other) noexcept {
  trace += other.trace;
  for_each_figure(*this, other, [](auto& sum, const auto& value) { sum += value; });
  return *this;
}

}  // namespace tandem
