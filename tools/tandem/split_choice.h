#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/tandem/split_step.h"

namespace tandem::cli {

/// What a split is to reach.
struct SplitTarget {
  double error = 0.1;            ///< at most, mean over layers and query heads: the fastest such step is wanted
  double tokens_per_second = 0;  ///< positive: at least, of attention alone; the most exact such split is wanted
};

/// "eps=0.05" or "tok/s=20". Throws UsageError naming `field`, the text and what is allowed.
SplitTarget parse_target(const std::string& field, const std::string& text);

/// The step to take, and why.
struct SplitChoice {
  std::optional<SplitStep> best;      ///< by what was measured; none reaches the target: the nearest to it
  std::optional<SplitStep> foretold;  ///< the one that predicted times alone would have chosen, if there are any
  bool reaches_target = false;
  std::string reason;
};

/// Among the steps of one context and batch, at least one. Where the fastest is wanted, the most exact of those within
/// 3 % of it is taken: such differences are noise.
SplitChoice choose(const std::vector<SplitStep>& steps, const SplitTarget& target);

/// The share by which predictions were off, over the measured cases that have one and that it was not made from.
struct SplitErrors {
  int cases = 0;
  double median = 0, p90 = 0, worst = 0;
};
SplitErrors errors_of(const std::vector<SplitResult>& results);

/// The stage that takes most of a step's time, with its share: "gathering, 55 %".
std::string bottleneck_of(const SplitSample& sample);

}  // namespace tandem::cli
