#pragma once

#include "runtime/base/view.h"

namespace tandem {

/// Throws Error(invalid_argument) naming both where a row of `out` shares a byte with a row of `in`, which a step may
/// still have to read when it writes the other. Rows that lie between each other's, as in buffers that hold q and out
/// of a token side by side, are apart. Rows of `in` must not overlap each other. Takes no time where the tensors lie
/// one behind the other, else a few nanoseconds per row of `out`.
void check_apart(const char* out_name, const MutableTensorView& out, const char* in_name, const TensorView& in);

}  // namespace tandem
