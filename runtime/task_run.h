#pragma once

#include <cstdint>

#include "gpu/device.h"
#include "runtime/step_context.h"
#include "runtime/step_plan.h"
#include "runtime/step_stats.h"
#include "runtime/worker_scratch.h"

namespace tandem {

// What becomes of one task of a step. Where step.window is nullptr, run_piece() does all of it. Otherwise every task is
// prepared, step.window launched, all pieces run and streamed tasks sent (streamed_tasks.h), both waited for, and then
// every task finished.

/// Stage 2: the task's queries as scaled, padded fp32 vectors, with their positions, in `memory`.
void load_queries(const StepContext& step, const Task& task, TaskMemory& memory);

/// Stage 2, and the work of stage 3, whose result comes to lie in `memory`; room for what a streamed task gets.
gpu::WindowAttention prepare_window(const StepContext& step, Task& task, TaskMemory& memory);

/// The work of stage 6 of a streamed task that is prepared; its result comes to lie in `memory`.
gpu::HostRowsAttention streamed_work(const StepContext& step, Task& task, TaskMemory& memory);

/// Stages 5 and 6 of a piece, and what it takes to have them finished. Thread-safe on distinct pieces and scratch.
void run_piece(const StepContext& step, const Piece& piece, StepBuffers& buffers, WorkerScratch& scratch,
               StepStats& stats);

/// Stage 7: the partials of window and host tier, merged, to the caller. Adds to StepBuffers::finished. Thread-safe on
/// distinct tasks.
void finish_task(const StepContext& step, std::int64_t task, StepBuffers& buffers);

}  // namespace tandem
