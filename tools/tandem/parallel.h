#pragma once

#include <cstdint>
#include <functional>

#include "tools/tandem/progress.h"

namespace tandem::cli {

/// Calls task(0 .. count - 1), each once, on `threads` threads; `progress` advances by one per finished task. The first
/// exception of a task, or Interrupted after Ctrl-C, is thrown here once the running tasks have ended.
void parallel_for(std::int64_t count, int threads, Progress& progress, const std::function<void(std::int64_t)>& task);

}  // namespace tandem::cli
