#include "tools/plan/validation.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"
#include "tools/plan/least_squares.h"
#include "tools/plan/prediction.h"

namespace tandem::plan {
namespace {

struct FitPoint {
  const PublishedPoint* point;
  System system;
  ModelShape model;
  RateFigures figures;
};

std::vector<FitPoint> fit_points(const Catalog& catalog) {
  std::vector<FitPoint> points;
  for (const auto& [name, series] : catalog.published()) {
    const System system = system_from(catalog, series.machine);
    for (const PublishedPoint& point : series.points)
      if (point.fit)
        points.push_back({&point, system, catalog.model(point.model), rate_figures(system, point.settings)});
  }
  return points;
}

double relative_error(const FitPoint& fit, double share, double layer_us) {
  StepRates rates = rates_at(fit.figures, Bound::expected);
  rates.magicpig_bytes_per_s *= share / kMagicPigShareOfPeak;
  rates.magicpig_layer_s = layer_us * 1e-6;
  const double seconds = simulate_step(fit.system, fit.model, fit.point->settings, rates).seconds;
  return fit.point->settings.batch / seconds / fit.point->tokens_per_s - 1;
}

}  // namespace

bool Check::passes() const noexcept { return !unexplained.empty() || std::abs(error()) <= kMostError; }

FittedRates fit_published(const Catalog& catalog) {
  const std::vector<FitPoint> points = fit_points(catalog);
  TANDEM_CHECK(!points.empty(), invalid_argument, "no published point is marked for fitting; allowed: at least one");
  const auto errors = [&](const std::vector<double>& x) {
    std::vector<double> all;
    for (const FitPoint& fit : points) all.push_back(relative_error(fit, x[0], x[1]));
    return all;
  };
  const std::vector<double> best = least_squares(errors, {kMagicPigShareOfPeak, kMagicPigLayerUs});
  FittedRates rates{best[0], best[1], 0, 0, static_cast<int>(points.size())};
  const std::vector<double> left = errors(best);
  rates.rms_error = std::sqrt(sum_of_squares(left) / static_cast<double>(points.size()));
  for (const double error : left) rates.worst_error = std::max(rates.worst_error, std::abs(error));
  return rates;
}

std::vector<Check> check_published(const Catalog& catalog) {
  std::vector<Check> checks;
  for (const auto& [name, series] : catalog.published()) {
    const System system = system_from(catalog, series.machine);
    for (const PublishedPoint& point : series.points) {
      const Prediction prediction = predict(system, catalog.model(point.model), point.settings);
      Check check;
      check.series = name;
      check.what = concat(point.model, ", ", point.settings.batch, " x ", point.settings.context);
      check.machine = series.machine;
      check.unit = "tokens/s";
      check.known = point.tokens_per_s;
      check.predicted = prediction.tokens_per_s;
      check.fit = point.fit;
      check.unexplained = point.unexplained;
      checks.push_back(std::move(check));
    }
  }
  return checks;
}

}  // namespace tandem::plan
