#include "tools/tandem/split_step.h"

#include <algorithm>

#include <fmt/format.h>

namespace tandem::cli {
namespace {

/// `of_split` and `of_dense` of a layer, each as often as the step has such layers.
double summed(const SplitStep& step, double of_split, double of_dense) {
  return (step.num_layers - step.dense_layers) * of_split + step.dense_layers * of_dense;
}

/// The measured case that differs from `split` by attending to every row, or none.
const SplitResult* dense_beside(const SplitResult& split, const std::vector<const SplitResult*>& measured) {
  Split like = split.at.split;
  for (const SplitResult* result : measured) {
    like.selector = result->at.split.selector;
    if (reads_all(result->at.split) && like == result->at.split) return result;
  }
  return nullptr;
}

}  // namespace

double SplitStep::us() const { return summed(*this, split->measured->us, dense == nullptr ? 0 : dense->measured->us); }

std::optional<plan::TimeRange> SplitStep::predicted() const {
  if (!split->predicted || (dense != nullptr && !dense->predicted)) return {};
  const plan::TimeRange& a = *split->predicted;
  const plan::TimeRange b = dense == nullptr ? plan::TimeRange() : *dense->predicted;
  return plan::TimeRange{summed(*this, a.value, b.value), summed(*this, a.low, b.low), summed(*this, a.high, b.high)};
}

double SplitStep::error() const {
  return summed(*this, split->measured->error, dense == nullptr ? 0 : dense->measured->error) / num_layers;
}

double SplitStep::tokens_per_second() const { return split->at.batch * 1e6 / us(); }

std::string name_of(const SplitStep& step) {
  std::string name = name_of(step.split->at.split);
  if (step.dense_layers > 0)
    name += fmt::format("; {} dense {}", step.dense_layers, step.dense_layers == 1 ? "layer" : "layers");
  return name;
}

std::vector<SplitStep> steps_of(const std::vector<const SplitResult*>& measured,
                                const std::vector<std::int32_t>& dense_layers, std::int32_t num_layers) {
  std::vector<SplitStep> steps;
  for (const SplitResult* split : measured) {
    if (reads_all(split->at.split)) {
      steps.push_back({split, nullptr, 0, num_layers});
      continue;
    }
    for (const std::int32_t dense : dense_layers) {
      const SplitResult* const beside = dense == 0 ? nullptr : dense_beside(*split, measured);
      if (dense == num_layers || (dense > 0 && beside == nullptr)) continue;
      steps.push_back({split, beside, dense, num_layers});
    }
  }
  return steps;
}

std::string advice_of(const SplitStep& step) {
  if (step.dense_layers == 0) return {};
  return fmt::format(
      "td_config has one selector for all layers, so the configuration is that of the other {}: an engine keeps {} "
      "dense "
      "by td_attend with TD_PART_ALL | TD_EXACT in {} of its choice",
      step.num_layers - step.dense_layers, step.dense_layers, step.dense_layers == 1 ? "a layer" : "layers");
}

}  // namespace tandem::cli
