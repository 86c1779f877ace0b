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
/// Writes the host tier's partial, its spread and its certificates to `memory`. The window's partial in it (empty when
/// the window takes no part) is read for a wanted error alone, and only then waited for. Sets Task::helped_us.
void attend_selected(const StepContext& step, Task& task, const cpu::QueryBlock& queries, const cpu::LogitRule& logits,
                     TaskMemory& memory, WorkerScratch& scratch, StepStats& stats);

}  // namespace tandem
