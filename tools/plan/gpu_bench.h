#pragma once

#include <string>

#include "tools/plan/machine.h"

namespace tandem::plan {

/// The GPU that was measured by tools/probes/gpu (probes::measure_gpu): bandwidths of its memory and of the link for
/// the largest copies, launch and hand-off times, all as medians between quartiles. Throws Error(invalid_argument)
/// naming the field with `origin` before it, its value and what is allowed; also for a result of the emulator, whose
/// times mean nothing.
Gpu gpu_from_measurement(const Json& result, const std::string& origin);

/// The same of a result of bench/gpu (gpu_bench --json), which has more beside it.
Gpu gpu_from_bench(const Json& result, const std::string& origin);

}  // namespace tandem::plan
