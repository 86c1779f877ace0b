#pragma once

#include <optional>
#include <string>

#include "lsh/cost_profile.h"
#include "numa/topology.h"
#include "tools/plan/machine.h"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// What measure_kernels() needs to know besides the machine.
struct KernelPlan {
  std::string isa;  ///< of the runtime
  int threads = 1;  ///< of the runtime, whose step costs are given
  std::int64_t rows = 32768;
  int rounds = 5;
};

/// The library's kernels against what memory and arithmetic allow: [{"name", "measured", "bytes_per_row",
/// "flop_per_row", "flop_per_byte", "gb_per_s", "low", "high", "gflop_per_s", "of": the figure of `cpu` that it is
/// compared with, "share": of that}]. Scans of sketches come from step costs, where there are any. Shows progress.
/// Throws Interrupted, Error(out_of_memory).
Json measure_kernels(const numa::Topology& topology, const KernelPlan& plan, const plan::Cpu& cpu,
                     const std::optional<lsh::CostProfile>& costs);

/// What bounds kernels, for a roofline: {"cores", "gflop_per_s", "read_gb_per_s", ..}, those that were measured.
Json roofline_json(const plan::Cpu& cpu);

std::string kernels_text(const Json& kernels);

}  // namespace tandem::cli
