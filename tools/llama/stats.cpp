#include "tools/llama/stats.h"

#include <algorithm>

namespace tandem::llama {
namespace {

double worst_of(double total, double step) noexcept { return total >= 0 && step >= 0 ? std::max(total, step) : -1; }

}  // namespace

void add_stats(td_stats& total, const td_stats& step) noexcept {
  total.num_workers = std::max(total.num_workers, step.num_workers);
  for (int stage = 0; stage < TD_N_STAGES; ++stage) {
    total.us[stage] += step.us[stage];
    total.bytes[stage] += step.bytes[stage];
  }
  total.total_us += step.total_us;
  total.rows_window += step.rows_window;
  total.rows_host += step.rows_host;
  total.rows_gathered += step.rows_gathered;
  total.keys_attended += step.keys_attended;
  total.keys_visible += step.keys_visible;
  total.lse_error = worst_of(total.lse_error, step.lse_error);
  total.out_error = worst_of(total.out_error, step.out_error);
  total.uncertified += step.uncertified;
  total.rows_dropped += step.rows_dropped;
  total.bytes_streamed += step.bytes_streamed;
}

}  // namespace tandem::llama
