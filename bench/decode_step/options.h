#pragma once

#include <string>
#include <vector>

#include "bench/decode_step/spec.h"
#include "tools/tandem/options.h"
#include "tools/tandem/synthetic_trace.h"
#include "tools/tandem/window_options.h"

namespace tandem::bench {

/// The command line of decode_step, checked.
struct Options {
  cli::SyntheticShape shape;  ///< tokens and steps are set per context
  std::vector<std::int64_t> contexts = {4096, 32768};
  std::vector<Json> selectors;
  std::vector<std::string> baselines;
  std::vector<int> threads;
  std::vector<int> batches = {1};
  std::vector<std::string> host_dtypes = {"bf16"};
  std::vector<std::string> devices = {"host"};
  cli::TierOptions tiers;
  cli::WindowOptions window;
  std::int64_t steps = 32;       ///< timed ones; one more comes before them
  std::int64_t exact_steps = 4;  ///< of them compared with the exact result
  std::string cold = "auto";
  std::int64_t wash_mib = 0;  ///< 0: 1.25 x the last-level cache
  bool never_slower = false;
  std::string isa, json;
  std::vector<std::string> command;  ///< argv
};

/// Prints help and exits when asked to. Throws cli::UsageError and Error(invalid_argument).
Options parse_options(int argc, char** argv);

}  // namespace tandem::bench
