#pragma once

#include "runtime/base/dtype.h"
#include "tests/cuda/cuda_test.h"

namespace tandem::testing {

/// Of relative errors of out, and of lse.
struct AttentionBounds {
  double out, lse;
};

/// Of rows on tensor cores, which take two numbers of the rows' type for a query or a weight; `of_f32` with fp32 units.
inline AttentionBounds tensor_core_bounds(DType dtype, AttentionBounds of_f32) {
  if (dtype == DType::f32) return of_f32;
  const AttentionBounds bounds = dtype == DType::bf16 ? AttentionBounds{2e-5, 5e-5} : AttentionBounds{4e-6, 1e-5};
  return {kTensorCoreErrors * bounds.out, kTensorCoreErrors * bounds.lse};
}

}  // namespace tandem::testing
