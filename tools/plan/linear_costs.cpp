#include "tools/plan/linear_costs.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

constexpr double kHold = 0.01;  // weight of a prior beside a sample; both count relatively
constexpr double kLeastSpread = 0.05;
constexpr double kCovered = 0.9;  // share of samples that the spread covers
constexpr std::size_t kNone = static_cast<std::size_t>(-1);

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Minimises x A x / 2 - b x over x >= 0, for a positive definite A (n, n): one coordinate after the other.
std::vector<double> nonnegative_least_squares(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr int kMostRounds = 20'000;
  constexpr double kStill = 1e-10;
  const std::size_t n = b.size();
  std::vector<double> x(n, 1);
  for (int round = 0; round < kMostRounds; ++round) {
    double moved = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double rest = b[i];
      for (std::size_t j = 0; j < n; ++j) rest -= a[i * n + j] * x[j];
      const double next = std::max(0.0, x[i] + rest / a[i * n + i]);
      moved = std::max(moved, std::abs(next - x[i]));
      x[i] = next;
    }
    if (moved < kStill) break;
  }
  return x;
}

}  // namespace

LinearCosts::LinearCosts(WorkCounts priors, std::vector<TimedWork> samples) : priors_(std::move(priors)) {
  for (const auto& [kind, cost] : priors_)
    TANDEM_CHECK(cost > 0 && std::isfinite(cost), invalid_argument, "the prior of ", kind, " is ", cost,
                 "; it must be positive");
  for (const TimedWork& sample : samples) {
    TANDEM_CHECK(sample.time > 0 && std::isfinite(sample.time), invalid_argument, "a sample's time is ", sample.time,
                 "; it must be positive");
    rows_.push_back(row_of(sample.work));
    for (double& term : rows_.back()) term /= sample.time;
  }
  scales_ = fitted(kNone);
  std::vector<double> off;
  for (std::size_t i = 0; i < rows_.size(); ++i) off.push_back(std::abs(std::log(dot(rows_[i], fitted(i)))));
  if (off.empty()) return;
  std::sort(off.begin(), off.end());
  const auto at = static_cast<std::size_t>(std::ceil(kCovered * static_cast<double>(off.size()))) - 1;
  spread_ = std::max(kLeastSpread, std::expm1(off[at]));
}

LinearCosts::Row LinearCosts::row_of(const WorkCounts& work) const {
  Row row(priors_.size(), 0);
  for (const auto& [kind, count] : work) {
    TANDEM_CHECK(count >= 0 && std::isfinite(count), invalid_argument, "the count of ", kind, " is ", count,
                 "; it must be 0 or positive");
    const auto known =
        std::find_if(priors_.begin(), priors_.end(), [&kind = kind](const auto& prior) { return prior.first == kind; });
    TANDEM_CHECK(known != priors_.end(), invalid_argument, "there is no cost of ", kind);
    row[static_cast<std::size_t>(known - priors_.begin())] += count * known->second;
  }
  return row;
}

LinearCosts::Row LinearCosts::fitted(std::size_t left_out) const {
  const std::size_t n = priors_.size();
  std::vector<double> a(n * n, 0), b(n, kHold);
  for (std::size_t i = 0; i < n; ++i) a[i * n + i] = kHold;
  for (std::size_t s = 0; s < rows_.size(); ++s) {
    if (s == left_out) continue;
    for (std::size_t i = 0; i < n; ++i) {
      b[i] += rows_[s][i];
      for (std::size_t j = 0; j < n; ++j) a[i * n + j] += rows_[s][i] * rows_[s][j];
    }
  }
  return nonnegative_least_squares(a, b);
}

double LinearCosts::time_of(const WorkCounts& work) const { return dot(row_of(work), scales_); }

TimeRange LinearCosts::range_of(const WorkCounts& work) const {
  const double time = time_of(work);
  return {time, time / (1 + spread_), time * (1 + spread_)};
}

std::optional<double> LinearCosts::cost(const std::string& kind) const {
  for (std::size_t i = 0; i < priors_.size(); ++i) {
    if (priors_[i].first != kind) continue;
    const bool measured = std::any_of(rows_.begin(), rows_.end(), [i](const Row& row) { return row[i] > 0; });
    return measured ? std::optional(priors_[i].second * scales_[i]) : std::nullopt;
  }
  return {};
}

}  // namespace tandem::plan
