#pragma once

#include "tandem/tandem.h"

namespace tandem::llama {

/// Adds `step` to `total`, which starts as TD_INIT leaves it. Times, bytes, rows, keys and what is uncertified are
/// summed; num_workers, lse_error and out_error become the larger of the two, and an error -1 (no estimate) once any
/// step has none.
void add_stats(td_stats& total, const td_stats& step) noexcept;

}  // namespace tandem::llama
