#include "cpu/rope.h"

#include <cmath>

#include "runtime/base/error.h"

namespace tandem::cpu {

void validate(const RopeParams& rope, const AttentionShape& shape) {
  TANDEM_CHECK(rope.theta == 0 || (rope.theta >= 1 && rope.theta <= 1e12), invalid_argument, "rope_theta is ",
               rope.theta, "; allowed: 1 to 1e12, or 0 for none");
  TANDEM_CHECK(rope.dims >= 0 && rope.dims % 2 == 0 && rope.dims <= shape.head_dim_k, invalid_argument, "rope_dims is ",
               rope.dims, "; allowed: even numbers up to head_dim_k (", shape.head_dim_k, "), or 0 for all");
  TANDEM_CHECK(!rope.known() || rope.dims != 0 || shape.head_dim_k % 2 == 0, invalid_argument,
               "rope_dims is 0, all of head_dim_k, which is ", shape.head_dim_k, "; rotated elements come in pairs");
}

void rotate(const RopeParams& rope, std::int32_t dim, std::int64_t positions, float* x, std::int64_t count,
            std::int64_t stride) noexcept {
  if (!rope.known() || positions == 0) return;
  const std::int32_t dims = rope.dims == 0 ? dim : rope.dims;
  for (std::int32_t i = 0; i < dims / 2; ++i) {
    const double angle = static_cast<double>(positions) * std::pow(rope.theta, -2.0 * i / dims);
    const double c = std::cos(angle), s = std::sin(angle);
    float* first = x + (rope.interleaved ? 2 * i : i);
    float* second = x + (rope.interleaved ? 2 * i + 1 : i + dims / 2);
    for (std::int64_t row = 0; row < count; ++row, first += stride, second += stride) {
      const double a = *first, b = *second;
      *first = static_cast<float>(a * c - b * s);
      *second = static_cast<float>(b * c + a * s);
    }
  }
}

}  // namespace tandem::cpu
