#pragma once

#include <cstdint>
#include <vector>

#include "tools/formats/trace.h"
#include "tools/tandem/progress.h"

namespace tandem::cli {

/// Dense attention of the decode steps of one layer, in double precision.
struct ExactResults {
  std::vector<double> out;  ///< (steps, num_q_heads, head_dim_v)
  std::vector<double> lse;  ///< (steps, num_q_heads), natural log
};

/// Units by which exact_decode advances its progress.
std::int64_t exact_work(const tools::TraceMeta& meta, std::int64_t steps);

/// The first `steps` decode steps of `layer`, by the oracle of cpu/reference_attention.h, chunk by chunk of the keys of
/// one KV head, so that a long prompt needs little memory beside its tensors. Step s sees the prompt and the decode
/// rows 0..s. Throws Interrupted after Ctrl-C.
ExactResults exact_decode(const tools::TraceMeta& meta, const tools::TraceLayer& layer, std::int64_t steps, int threads,
                          Progress& progress);

}  // namespace tandem::cli
