#pragma once

#include <vector>

#include "runtime/split.h"
#include "runtime/step_context.h"
#include "runtime/step_plan.h"

namespace tandem {

// What a step has to do with Config::auto_split, once all its pieces have run.

/// Adds what the measured tasks took to `split`. Of a step that streams nothing is added: its workers copy rows, too.
void measure_split(const StepContext& step, const StepBuffers& buffers, Split& split) noexcept;

/// The layers take over what the step decided by; changes of decisions are logged. For a step that cannot fail any
/// more.
void take_over(const std::vector<SplitTurn>& turns) noexcept;

}  // namespace tandem
