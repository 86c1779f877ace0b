#pragma once

#include "cpu/attention_pass.h"
#include "runtime/base/partial.h"
#include "runtime/step_context.h"
#include "runtime/step_plan.h"
#include "runtime/step_stats.h"
#include "runtime/worker_scratch.h"

namespace tandem {

/// What the spread of one host partial says about a query vector into which it was merged.
struct VectorError {
  double out = 0;  ///< relative error of out; may exceed 1
  double lse = 0;  ///< standard deviation of lse, nats
};

/// `spread` and `host` are of the host tier, `merged` of the result, all (rows, dim); vector v.
VectorError estimated_error(cpu::SampleSpread spread, ConstPartialAttention host, ConstPartialAttention merged,
                            std::int64_t v) noexcept;

/// Adds up the estimated errors of a finished task's vectors, and hands them to the caller. Infinite sums when nothing
/// is known: a head sampled none of the rows that it could see, the selector has no estimate, or a part is missing.
/// Rows of a quantized format are never certified; their typical error counts as if it were independent.
void report_errors(const StepContext& step, const Task& task, const cpu::QueryBlock& queries,
                   const cpu::LogitRule& logits, ConstPartialAttention host, ConstPartialAttention merged,
                   TaskMemory& memory, StepStats& stats);

}  // namespace tandem
