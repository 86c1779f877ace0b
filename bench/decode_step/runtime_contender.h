#pragma once

#include "bench/decode_step/contender.h"
#include "tools/formats/trace.h"
#include "tools/tandem/options.h"
#include "tools/tandem/window_options.h"

namespace tandem::bench {

/// A selector of the runtime, and everything a runtime is told.
struct RuntimeSettings {
  Json selector;
  int threads = 1;
  int batch = 1;   ///< sequences of one step, each with keys and values of its own
  int layers = 1;  ///< each holds the whole trace
  std::string host_dtype = "bf16";
  std::string device = "host";  ///< "host" or "cuda:N"
  cli::TierOptions tiers;
  cli::WindowChoice window;
  bool never_slower = false;  ///< let the runtime's cost model pick dense attention
  std::string isa;            ///< empty: the best
};

/// As tables, pictures and compare.py tell rows apart: the selector, and the device where it is not the host.
std::string name_of(const RuntimeSettings& settings);

/// Builds a runtime, appends the trace's prompt to every layer of every sequence (the last tokens with their queries)
/// and has it indexed. `trace` must outlive the contender. `progress` advances by tokens * layers * batch. Throws
/// td::Error and cli::UsageError (bad selector).
Contender make_runtime_contender(const RuntimeSettings& settings, const tools::TraceMeta& meta,
                                 const tools::TraceLayer& trace, cli::Progress& progress);

}  // namespace tandem::bench
