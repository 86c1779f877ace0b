#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "runtime/base/view.h"
#include "runtime/config.h"

namespace tandem {

/// What a tensor of a request must look like.
struct TensorSpec {
  const char* name;
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t dim;
};

/// Shape, pointer and strides; throws Error(invalid_argument) naming the tensor, the field and what is allowed.
void check_tensor(const TensorView& tensor, const TensorSpec& spec);
/// As check_tensor, and every element is finite and less than `bound` in magnitude.
void check_finite_tensor(const TensorView& tensor, const TensorSpec& spec,
                         float bound = std::numeric_limits<float>::infinity());

/// Counts of one request: as many as sequences, none negative. Returns their sum.
std::int64_t check_counts(const char* name, std::span<const std::uint64_t> sequences,
                          std::span<const std::int64_t> counts);

}  // namespace tandem
