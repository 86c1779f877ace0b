#pragma once

#include "runtime/base/partial.h"
#include "runtime/step_context.h"
#include "runtime/step_plan.h"
#include "runtime/step_stats.h"
#include "runtime/worker_scratch.h"

namespace tandem {

/// Stages 5 and 6 of a step, one query token at a time: select rows for the group, then gather them once for all its
/// heads. Where a policy is to meet an error, a second and larger selection follows when the estimate says so.
///
/// `window` is the partial of the window (empty when it takes no part). Writes `result` (num_vectors, dim_v), and its
/// spread and certificates to `scratch`.
void attend_selected(const StepContext& step, const Task& task, const cpu::QueryBlock& queries,
                     const cpu::LogitRule& logits, ConstPartialAttention window, WorkerScratch& scratch,
                     PartialAttention result, StepStats& stats);

}  // namespace tandem
