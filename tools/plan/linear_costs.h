#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tandem::plan {

/// A kind of work by its name, and how much of it: rows, selections, calls.
using WorkCounts = std::vector<std::pair<std::string, double>>;

/// The time of something that was measured, and the work that it did. Times may have any unit, the same for all.
struct TimedWork {
  WorkCounts work;
  double time = 0;
};

/// A time with the bounds between which it lies in nine of ten cases.
struct TimeRange {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// Times as sums of work x cost, where costs are never negative: fitted to what was measured, each sample counting by
/// its relative error, and held near what was known of each cost before, which alone decides where samples say nothing.
class LinearCosts {
 public:
  /// `priors` name every kind of work that a sample or a prediction may have, with its expected cost, positive. Throws
  /// Error(invalid_argument) for work without a prior, and for times or counts that are not finite and positive.
  LinearCosts(WorkCounts priors, std::vector<TimedWork> samples);

  /// Throws Error(invalid_argument) for work without a prior.
  [[nodiscard]] double time_of(const WorkCounts& work) const;
  /// The bounds come from predicting each sample from all others: nine of ten were off by less, by a factor; by 5 % at
  /// least.
  [[nodiscard]] TimeRange range_of(const WorkCounts& work) const;
  /// Of one unit; none where no sample had any of it.
  [[nodiscard]] std::optional<double> cost(const std::string& kind) const;
  [[nodiscard]] double spread() const noexcept { return spread_; }

 private:
  using Row = std::vector<double>;
  [[nodiscard]] Row row_of(const WorkCounts& work) const;
  /// Costs in units of their priors, fitted to all samples but `left_out`.
  [[nodiscard]] Row fitted(std::size_t left_out) const;

  WorkCounts priors_;
  std::vector<Row> rows_;  // counts x prior / time: a sum of 1 predicts the sample exactly
  Row scales_;
  double spread_ = 0;
};

}  // namespace tandem::plan
