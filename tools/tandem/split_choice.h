#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/tandem/split_predictor.h"

namespace tandem::cli {

/// What a split is to reach.
struct SplitTarget {
  double error = 0.1;            ///< at most, mean over query heads: the fastest such split is wanted
  double tokens_per_second = 0;  ///< positive: at least, of attention alone; the most exact such split is wanted
};

/// "eps=0.05" or "tok/s=20". Throws UsageError naming `field`, the text and what is allowed.
SplitTarget parse_target(const std::string& field, const std::string& text);

/// A case as it was predicted and, where it was, measured.
struct SplitResult {
  SplitCase at;
  plan::TimeRange predicted = {};  ///< microseconds of a decode step of one layer
  std::optional<SplitSample> measured = {};
  std::string not_measured = {};  ///< why, or empty
  bool fitted = false;            ///< the prediction was made from this very case, among others
};

/// The split to take, and why.
struct SplitChoice {
  const SplitResult* best = nullptr;      ///< by what was measured; none reaches the target: the nearest to it
  const SplitResult* foretold = nullptr;  ///< the one that predicted times alone would have chosen
  bool reaches_target = false;
  std::string reason;
};

/// Among the measured cases of one context and batch, at least one. Where the
/// fastest is wanted, the most exact of those within 3 % of it is taken: such differences are noise.
SplitChoice choose(const std::vector<const SplitResult*>& results, const SplitTarget& target, const SplitShape& shape);

/// The share by which predictions were off, over the measured cases that they were not made from.
struct SplitErrors {
  int cases = 0;
  double median = 0, p90 = 0, worst = 0;
};
SplitErrors errors_of(const std::vector<SplitResult>& results);

/// The stage that takes most of a step's time, with its share: "gathering, 55 %".
std::string bottleneck_of(const SplitSample& sample);

}  // namespace tandem::cli
