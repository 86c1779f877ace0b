#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/plan/memory.h"
#include "tools/plan/step_model.h"

namespace tandem::plan {

/// What a configuration is predicted to do.
struct Prediction {
  StepSettings settings;
  Estimate step_ms;
  Estimate tokens_per_s;  ///< of all sequences together
  MemoryNeed memory;
  int max_batch = 0;                      ///< sequences that would fit
  Schedule schedule;                      ///< with all rates as expected
  FigureKind kind = FigureKind::assumed;  ///< of the worst known figure that the times are made of
  std::optional<Estimate> joules_per_token;
  std::optional<Estimate> usd_per_million_tokens;
};

/// By how much predictions have been off where they could be checked, as a share: bounds are this much wider than those
/// that follow from the figures. The worst relative error, rounded up, of the published points that were neither fitted
/// nor are listed as unexplained (`tandem plan validate`): of steps on the device alone, and of those with the host.
inline constexpr double kDeviceModelError = 0.11;
inline constexpr double kHostModelError = 0.09;
double model_error(Method method) noexcept;

/// Predicts one step with the system's figures as expected, at their worst bounds together, and at their best, and
/// widens the bounds by model_error(). Joules where the rated power of all parts is known; USD where the price of an
/// hour is, which `usd_per_hour` says for all parts together. Throws Error(invalid_argument) for settings that
/// validate() refuses, for methods that need a GPU where there is none, and for figures that the machine lacks. Whether
/// it fits is not asked: see fits() and why_it_does_not_fit().
Prediction predict(const System& system, const ModelShape& model, const StepSettings& settings,
                   std::optional<double> usd_per_hour = {});

/// A machine whose rates are not those of rate_figures(): what fitting and checking need. Without joules, prices and
/// max_batch.
Prediction predict_with(const RateFigures& figures, const System& system, const ModelShape& model,
                        const StepSettings& settings);

/// Every method that fits with the batch asked for, or with the largest that fits where `settings.batch` is 0; the
/// fastest first.
std::vector<Prediction> predict_methods(const System& system, const ModelShape& model, const StepSettings& settings,
                                        const std::vector<Method>& methods, std::optional<double> usd_per_hour = {});

}  // namespace tandem::plan
