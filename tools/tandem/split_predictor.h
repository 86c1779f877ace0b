#pragma once

#include <map>
#include <optional>
#include <vector>

#include "lsh/cost_profile.h"
#include "tools/plan/linear_costs.h"
#include "tools/tandem/gathered_shares.h"
#include "tools/tandem/split_bench.h"

namespace tandem::cli {

/// Predicts what a decode step of one layer takes from what others took: costs per row, head and call, fitted for each
/// number of threads by itself, since threads share the memory's bandwidth.
class SplitPredictor {
 public:
  /// `splits` are all that will ever be asked about.
  SplitPredictor(const std::vector<Split>& splits, const SplitShape& shape, const std::vector<SplitSample>& measured);

  /// Microseconds; none for a selector whose rows the data decides, beyond the contexts at which it was measured: the
  /// range then holds all shares that it gathered at these. Throws Error(invalid_argument) for a number of threads that
  /// was not measured.
  [[nodiscard]] std::optional<plan::TimeRange> predict(const SplitCase& at) const;
  /// The figures of td_config.profile, for the reference shape, as far as steps with `threads` threads show them.
  [[nodiscard]] lsh::CostProfile profile(int threads) const;

 private:
  [[nodiscard]] const plan::LinearCosts& costs_of(int threads) const;

  SplitShape shape_;
  std::map<int, plan::LinearCosts> costs_;        // by threads
  std::map<std::string, GatheredShares> shares_;  // by selector without its budget
};

/// The splits of `splits` that are worth measuring to predict all of them: one factor at a time beside the first, and
/// of selectors that differ in their budget alone the smallest and the largest.
std::vector<Split> fit_splits(const std::vector<Split>& splits);

}  // namespace tandem::cli
