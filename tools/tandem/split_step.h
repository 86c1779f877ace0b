#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/tandem/split_predictor.h"

namespace tandem::cli {

/// A case as it was predicted and, where it was, measured.
struct SplitResult {
  SplitCase at;
  std::optional<plan::TimeRange> predicted = {};  ///< microseconds of a decode step of one layer
  std::optional<SplitSample> measured = {};
  std::string not_measured = {};  ///< why, or empty
  bool fitted = false;            ///< the prediction was made from this very case, among others
};

/// A decode step of all layers: so many of them attend to every row, the others as a split says. Layers do not interact
/// within a step, so that its time is the sum of theirs; its error is their mean.
struct SplitStep {
  const SplitResult* split = nullptr;  ///< measured
  const SplitResult* dense = nullptr;  ///< likewise, of the layers that attend to every row; where there are any
  std::int32_t dense_layers = 0;
  std::int32_t num_layers = 1;

  [[nodiscard]] double us() const;  ///< as measured
  [[nodiscard]] std::optional<plan::TimeRange> predicted() const;
  [[nodiscard]] double error() const;              ///< |out - dense| / |dense|, mean over layers and query heads
  [[nodiscard]] double tokens_per_second() const;  ///< of attention alone, all sequences, as measured
  friend bool operator==(const SplitStep&, const SplitStep&) = default;
};

/// "sketch1:0.02, window 64, 1 thread; 2 dense layers"
std::string name_of(const SplitStep& step);

/// The steps that measured cases of one context and batch make, each with each of these numbers of dense layers. A
/// split that reads every row makes one, and so does any where all layers would be dense.
std::vector<SplitStep> steps_of(const std::vector<const SplitResult*>& measured,
                                const std::vector<std::int32_t>& dense_layers, std::int32_t num_layers);

/// What an engine has to do for dense layers, which td_config has no field for; empty without any.
std::string advice_of(const SplitStep& step);

}  // namespace tandem::cli
