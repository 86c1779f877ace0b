#pragma once

#include "runtime/base/view.h"
#include "runtime/step_stats.h"
#include "tandem/tandem.h"

namespace tandem {

// Tensors and statistics of the C ABI. What throws, throws Error(invalid_argument) naming the field, the value and what
// is allowed.

MutableTensorView view_of(const char* name, const td_tensor& tensor);
TensorView const_view_of(const char* name, const td_tensor& tensor);
/// Also of the formats that only borrowed rows have.
TensorView rows_view_of(const char* name, const td_tensor& tensor);

/// Before the work: after it, a bad struct could no longer be refused without a change.
void check_stats(const td_stats* target);
/// `target` may be nullptr.
void write_stats(const StepStats& stats, int workers, td_stats* target);

}  // namespace tandem
