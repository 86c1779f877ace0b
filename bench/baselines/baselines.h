#pragma once

#include "bench/decode_step/contender.h"
#include "tools/formats/trace.h"
#include "tools/tandem/options.h"

namespace tandem::bench {

/// Methods outside the runtime that decode_step can measure beside it; empty when this build has none.
std::vector<std::string> baseline_names();

/// One of them over the rows of `trace`, which must outlive it: a retriever of the 2 % of the host rows with the
/// largest logits, or what it takes for them, per query head; exact attention over these and the window follows, by the
/// runtime's own kernels, without weights. `progress` advances by tokens. Batch 1, one layer, bf16 rows.
Contender make_baseline(const std::string& name, int threads, const cli::TierOptions& tiers,
                        const tools::TraceMeta& meta, const tools::TraceLayer& trace, cli::Progress& progress);

}  // namespace tandem::bench
