#pragma once

#include <cstdint>

#include "runtime/base/shape.h"
#include "runtime/base/view.h"
#include "runtime/sequence.h"
#include "runtime/step_plan.h"

namespace tandem {

/// Logs the queries of the latest `count` of `length` tokens of `layer`, rows first_row.. of q, for each of its heads.
void observe_queries(const TensorView& q, std::int64_t first_row, std::int64_t count, const AttentionShape& shape,
                     LayerState& layer, std::int64_t length, StepBuffers& buffers);

/// Memory for observe_queries() of any number of tokens, which then cannot fail.
void reserve_observed(const LayerState& layer, const AttentionShape& shape, StepBuffers& buffers);

}  // namespace tandem
