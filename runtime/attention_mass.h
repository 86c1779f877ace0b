#pragma once

#include "runtime/requests.h"
#include "runtime/step_plan.h"

namespace tandem {

/// Where the window's policy scores tokens by attention, gives every task that attends a window room for what its
/// queries pay; the tasks of a head are summed up afterwards in their order, so that scores keep their bits.
void plan_mass(const AttendRequest& request, StepBuffers& buffers);

/// Adds what the tasks were given room for to the scores of their windows.
void accumulate_mass(StepBuffers& buffers);

}  // namespace tandem
