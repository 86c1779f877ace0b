#include "runtime/split.h"

#include <algorithm>
#include <cmath>

namespace tandem {
namespace {

constexpr double kMostQuotient = 1e6;

}  // namespace

double SplitFigures::selecting_over_dense() const noexcept {
  if (!is_known()) return 1;
  return std::clamp(selecting.median.ratio() / dense.median.ratio(), 1 / kMostQuotient, kMostQuotient);
}

void Split::add(Way way, const SplitMeasurement& measurement) noexcept {
  const double ratio = measurement.ratio();
  if (!(ratio > 0) || !std::isfinite(ratio)) return;
  const std::lock_guard lock(mutex_);
  Kept& kept = way == Way::dense ? dense_ : selecting_;
  kept.latest[static_cast<std::size_t>(kept.count % kKeptProbes)] = measurement;
  ++kept.count;
  if (dense_.count >= kLeastProbes && selecting_.count >= kLeastProbes)
    is_known_.store(true, std::memory_order_relaxed);
}

SplitFigures Split::figures() const noexcept {
  const std::lock_guard lock(mutex_);
  return {summed_up(dense_), summed_up(selecting_)};
}

MeasuredWay Split::summed_up(const Kept& kept) noexcept {
  MeasuredWay way;
  way.steps = kept.count;
  if (kept.count == 0) return way;
  auto latest = kept.latest;
  const auto count = std::min<std::ptrdiff_t>(kKeptProbes, static_cast<std::ptrdiff_t>(kept.count));
  const auto middle = latest.begin() + (count - 1) / 2;
  std::nth_element(latest.begin(), middle, latest.begin() + count,
                   [](const SplitMeasurement& a, const SplitMeasurement& b) { return a.ratio() < b.ratio(); });
  way.median = *middle;
  return way;
}

TakenSplit TakenSplit::cut(std::int64_t length) const noexcept {
  return {selecting_over_dense, std::min(block, length > 0 ? block_of(length - 1) : -1)};
}

double next_quotient(double taken, double measured, const lsh::SelectionCost& cost, std::int64_t most) noexcept {
  const bool differs = std::max(taken, measured) > kLeastChange * std::min(taken, measured);
  if (!differs || cost.crossover(most, measured) == cost.crossover(most, taken)) return taken;
  return measured;
}

}  // namespace tandem
