#include "lsh/estimate.h"

#include <algorithm>
#include <cmath>

namespace tandem::lsh {
namespace {

double dot(const float* a, const float* b, std::int64_t dim) noexcept {
  double sum = 0;
  for (std::int64_t d = 0; d < dim; ++d) sum += static_cast<double>(a[d]) * b[d];
  return sum;
}

/// Moves `out` towards `target`: its distance keeps the part that its squared error does not explain.
void shrink(double squared_error, const float* target, float* out, std::int64_t dim) noexcept {
  double distance = 0;
  for (std::int64_t d = 0; d < dim; ++d) {
    const double difference = static_cast<double>(out[d]) - target[d];
    distance += difference * difference;
  }
  const auto kept = static_cast<float>(distance > 0 ? std::max(0.0, 1 - squared_error / distance) : 0.0);
  for (std::int64_t d = 0; d < dim; ++d) out[d] = target[d] + kept * (out[d] - target[d]);
}

/// The squared error of the sampled part alone, around what it and the exact part give together.
double tail_error(ConstPartialAttention exact, ConstPartialAttention tail, float weight, const float* value,
                  float square) noexcept {
  const double share = 1 / (1 + std::exp(static_cast<double>(*exact.lse) - *tail.lse));
  double norm = 0;
  double product = 0;
  for (std::int64_t d = 0; d < tail.dim; ++d) {
    const double joined = share * tail.out[d] + (1 - share) * exact.out[d];
    norm += joined * joined;
    product += joined * value[d];
  }
  return std::max(0.0, square - 2 * product + norm * weight);
}

}  // namespace

void add_part(PartialAttention whole, cpu::SampleSpread whole_spread, ConstPartialAttention part,
              cpu::SampleSpread part_spread) noexcept {
  const std::int64_t dim = whole.dim;
  for (std::int64_t h = 0; h < whole.rows; ++h) {
    const float before = whole.lse[h];
    merge_state({whole.out + h * dim, whole.lse + h, 1, dim}, {part.out + h * dim, part.lse + h, 1, dim});
    if (whole_spread.weight == nullptr || std::isinf(part.lse[h])) continue;
    // Spreads are in units of the squared denominator, which has grown.
    const auto unit = [&](float lse) {
      const double share = std::exp(static_cast<double>(lse) - whole.lse[h]);
      return static_cast<float>(share * share);
    };
    const float kept = unit(before);
    const float added = unit(part.lse[h]);
    whole_spread.weight[h] = kept * whole_spread.weight[h] + added * part_spread.weight[h];
    whole_spread.square[h] = kept * whole_spread.square[h] + added * part_spread.square[h];
    for (std::int64_t d = h * dim; d < (h + 1) * dim; ++d)
      whole_spread.value[d] = kept * whole_spread.value[d] + added * part_spread.value[d];
  }
}

double out_error(float weight, const float* value, float square, double share, const float* out,
                 std::int64_t dim) noexcept {
  return share * std::sqrt(std::max(0.0, square - 2 * dot(out, value, dim) + dot(out, out, dim) * weight));
}

void join_sampled(const cpu::Selection& selection, PartialAttention exact, PartialAttention sampled,
                  cpu::SampleSpread spread) noexcept {
  const std::int64_t dim = exact.dim;
  for (std::int64_t h = 0; h < exact.rows; ++h) {
    const PartialAttention head{exact.out + h * dim, exact.lse + h, 1, dim};
    const PartialAttention tail{sampled.out + h * dim, sampled.lse + h, 1, dim};
    if (std::isinf(*tail.lse)) continue;  // nothing was drawn, and the spread is 0
    if (!selection.log_calibration.empty()) *tail.lse += selection.log_calibration[static_cast<std::size_t>(h)];
    const float tail_lse = *tail.lse;
    float* value = spread.value + h * dim;
    if (selection.tail_mean != nullptr) {
      shrink(tail_error(as_const(head), as_const(tail), spread.weight[h], value, spread.square[h]), selection.tail_mean,
             tail.out, dim);
    }
    merge_state(head, as_const(tail));
    const auto share = static_cast<float>(std::exp(static_cast<double>(tail_lse) - *head.lse));
    spread.weight[h] *= share * share;
    spread.square[h] *= share * share;
    for (std::int64_t d = 0; d < dim; ++d) value[d] *= share * share;
  }
}

}  // namespace tandem::lsh
