#include "runtime/base/partial.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

struct MergedWeights {
  float lse, a, b;  // a + b = 1 unless both sets are empty
};

MergedWeights merged_weights(float lse_a, float lse_b) noexcept {
  if (lse_b == kEmpty) return {lse_a, 1.f, 0.f};
  if (lse_a == kEmpty) return {lse_b, 0.f, 1.f};
  const float top = std::max(lse_a, lse_b);
  const float exp_a = std::exp(lse_a - top);
  const float exp_b = std::exp(lse_b - top);
  const float sum = exp_a + exp_b;
  return {top + std::log(sum), exp_a / sum, exp_b / sum};
}

}  // namespace

void set_empty(PartialAttention p) noexcept {
  std::fill_n(p.out, p.rows * p.dim, 0.f);
  std::fill_n(p.lse, p.rows, kEmpty);
}

void merge_state(PartialAttention a, ConstPartialAttention b) noexcept {
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const MergedWeights w = merged_weights(a.lse[row], b.lse[row]);
    float* out_a = a.out + row * a.dim;
    const float* out_b = b.out + row * b.dim;
    for (std::int64_t i = 0; i < a.dim; ++i) out_a[i] = out_a[i] * w.a + out_b[i] * w.b;
    a.lse[row] = w.lse;
  }
}

void merge_sinks(PartialAttention a, const float* sink) noexcept {
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const MergedWeights w = merged_weights(a.lse[row], sink[row]);
    float* out = a.out + row * a.dim;
    for (std::int64_t i = 0; i < a.dim; ++i) out[i] *= w.a;
    a.lse[row] = w.lse;
  }
}

}  // namespace tandem
