#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tools/formats/trace.h"
#include "tools/tandem/split_case.h"

namespace tandem::cli {

/// One layer of a recorded trace, to measure splits over: layer `wanted`, or where that is negative the middle one of
/// those that it has. Throws UsageError for a layer that it does not have and for traces whose steps cannot be timed,
/// and what load_trace() throws.
std::shared_ptr<const tools::Trace> trace_to_split(const std::string& folder, std::int32_t wanted);

/// Its heads; `num_layers` of them make the model.
SplitShape shape_of(const tools::TraceMeta& meta, std::int32_t num_layers);

/// Throws UsageError where the trace is not of heads as `model`, which is called `name`, has them.
void check_same_heads(const std::string& folder, const tools::Trace& trace, const SplitShape& model,
                      const std::string& name);

/// `steps` timed ones, or as many as the trace has where so many were not `asked` for: one more comes before them.
/// Throws UsageError where they were.
std::int64_t timed_steps(const tools::TraceMeta& meta, std::int64_t steps, bool asked);

/// Sketches learn from the queries of the prompt. Throws UsageError for splits that have one where there are none.
void check_queries(const std::string& folder, const tools::Trace& trace, const std::vector<Split>& splits);

}  // namespace tandem::cli
