#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/probes/gpu/gpu_probes.h"

namespace tandem::bench {

using probes::gb_per_s;
using probes::Json;
using probes::quartiles_of;

/// The command line of gpu_bench, checked.
struct GpuOptions {
  int ordinal = 0;  ///< of the device
  std::vector<std::int64_t> contexts;
  std::vector<std::int64_t> batches;
  std::vector<std::int64_t> chunks;  ///< queries
  std::vector<std::string> formats;  ///< empty: all
  std::int32_t kv_heads = 8, group = 4, head_dim = 128;
  probes::GpuPlan plan;       ///< its repetitions are those of merges, indexes and windows, too
  std::int64_t wash_mib = 0;  ///< 0: twice the L2 cache
  bool quick = false;
  std::string json;
  std::vector<std::string> command;  ///< argv
};

/// Prints help and exits when asked to. Throws cli::UsageError.
GpuOptions parse_gpu_options(int argc, char** argv);

}  // namespace tandem::bench
