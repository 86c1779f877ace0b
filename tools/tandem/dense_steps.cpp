#include "tools/tandem/dense_steps.h"

#include <fmt/format.h>

namespace tandem::cli {

bool is_dense(const td_stats& stats) noexcept { return stats.rows_host > 0 && stats.rows_gathered == stats.rows_host; }

std::string dense_text(std::int64_t dense, std::int64_t steps, const td_selector& selector, bool tried) {
  if (dense == 0 || selector.kind == TD_SELECT_ALL) return {};
  const char* why = tried ? "" : ": the profile expects selecting to take longer; --always-select selects all the same";
  return fmt::format("{} of {} steps ran dense{}", dense, steps, why);
}

}  // namespace tandem::cli
