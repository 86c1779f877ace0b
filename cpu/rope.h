#pragma once

#include <cstdint>

#include "runtime/base/shape.h"

namespace tandem::cpu {

/// Rotary position embedding as the engine applies it: pair i of the first `dims` elements is turned by the angle
/// position * theta^(-2 i / dims). Source: Su et al., arXiv:2104.09864.
struct RopeParams {
  double theta = 0;          ///< 0: keys are not rotated, or nobody knows how
  std::int32_t dims = 0;     ///< elements that are rotated, the first ones; even; 0: all of head_dim_k
  bool interleaved = false;  ///< pairs are (2 i, 2 i + 1) (GPT-J) instead of (i, i + dims / 2) (Llama, GPT-NeoX)

  [[nodiscard]] bool known() const noexcept { return theta > 0; }
  friend bool operator==(const RopeParams& a, const RopeParams& b) noexcept {  // CUDA sources are C++17
    return a.theta == b.theta && a.dims == b.dims && a.interleaved == b.interleaved;
  }
};

/// Throws Error(invalid_argument) naming the field and the value.
void validate(const RopeParams& rope, const AttentionShape& shape);

/// Turns `count` keys or queries of `dim` elements, `stride` apart, by `positions` each (negative: back). In double:
/// turning there and back is exact to fp32 rounding.
void rotate(const RopeParams& rope, std::int32_t dim, std::int64_t positions, float* x, std::int64_t count = 1,
            std::int64_t stride = 0) noexcept;

}  // namespace tandem::cpu
