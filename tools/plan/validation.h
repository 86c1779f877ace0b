#pragma once

#include <string>
#include <vector>

#include "tools/plan/catalog.h"
#include "tools/plan/estimate.h"

namespace tandem::plan {

/// A prediction beside what was published or measured.
struct Check {
  std::string series;
  std::string what;  ///< "llama-3.1-8b, 98304 x 4, magicpig"
  std::string machine;
  std::string unit;
  double known = 0;
  Estimate predicted;
  bool fit = false;
  std::string unexplained;  ///< why it is not expected to agree

  [[nodiscard]] double error() const noexcept { return predicted.value / known - 1; }
  /// Not beyond kMostError, or listed as unexplained.
  [[nodiscard]] bool passes() const noexcept;
};

/// Beyond this relative error a point that is not listed as unexplained fails.
inline constexpr double kMostError = 0.25;

/// MagicPIG's rates, fitted on the published points that are marked for it, with the sum of squared relative errors of
/// tokens per second as small as it gets.
struct FittedRates {
  double share_of_peak = 0;
  double layer_us = 0;
  double rms_error = 0;
  double worst_error = 0;
  int points = 0;
};
/// Throws Error(invalid_argument) when no point is marked.
FittedRates fit_published(const Catalog& catalog);

/// Every published point against the prediction with the frozen rates (rates.h).
std::vector<Check> check_published(const Catalog& catalog);

}  // namespace tandem::plan
