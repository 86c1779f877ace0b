#pragma once

#include <string>
#include <vector>

#include "tools/plan/prediction.h"

namespace tandem::plan {

/// What one machine does at its best with one context and batch.
struct Contender {
  std::string machine;
  std::vector<Prediction> methods;  ///< those that fit, the fastest first; empty: none does
};

/// Tokens per second of `a` over those of `b`, each with its fastest method. Low and high take the bounds that are
/// worst and best for `a`: what both machines have in common is not set off. Both must have a method that fits.
Estimate ratio(const Contender& a, const Contender& b);

/// One plain sentence on `a` against `b`: which is faster, whether the ranges say so, and with which methods.
std::string verdict(const Contender& a, const Contender& b);

}  // namespace tandem::plan
