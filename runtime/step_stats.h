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

  StepStats& operator+=(const StepStats& other) noexcept {
    trace += other.trace;
    total_us += other.total_us;
    rows_window += other.rows_window;
    rows_host += other.rows_host;
    rows_gathered += other.rows_gathered;
    keys_attended += other.keys_attended;
    keys_visible += other.keys_visible;
    lse_error += other.lse_error;
    out_error += other.out_error;
    uncertified += other.uncertified;
    return *this;
  }
};

}  // namespace tandem
