// Stands in for the baselines where their libraries are missing.
#include "bench/baselines/baselines.h"
#include "runtime/base/error.h"

namespace tandem::bench {

std::vector<std::string> baseline_names() { return {}; }

Contender make_baseline(const std::string& name, int, const cli::TierOptions&, const tools::TraceMeta&,
                        const tools::TraceLayer&, cli::Progress&) {
  fail(ErrorCode::unsupported, "baseline ", name, ": this build has no FAISS");
}

}  // namespace tandem::bench
