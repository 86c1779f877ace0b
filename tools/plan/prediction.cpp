#include "tools/plan/prediction.h"

#include <algorithm>
#include <array>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

constexpr double kMilli = 1e3;  // of a second
constexpr double kSecondsOfAnHour = 3600;
constexpr double kMillion = 1e6;

Estimate scaled(const Estimate& estimate, double factor) {
  return {estimate.value * factor, estimate.low * factor, estimate.high * factor};
}

/// What is per second becomes per token: more tokens, less of it.
Estimate per_token(const Estimate& per_second, const Estimate& tokens_per_s) {
  return {per_second.value / tokens_per_s.value, per_second.low / tokens_per_s.high,
          per_second.high / tokens_per_s.low};
}

/// Adds `count` parts' figure, where it is known; without one of them nobody knows the sum.
void add_part(const std::optional<Figure>& figure, double count, std::optional<Figure>& sum) {
  if (!figure || !sum) {
    sum.reset();
    return;
  }
  sum->value += count * figure->value;
  sum->low += count * figure->low;
  sum->high += count * figure->high;
}

std::optional<Figure> rated_power(const System& system) {
  std::optional<Figure> sum = Figure{};
  add_part(system.cpu.power_w, system.num_nodes(), sum);
  if (system.gpu) add_part(system.gpu->power_w, system.num_gpus, sum);
  return sum;
}

std::optional<Figure> price(const System& system) {
  std::optional<Figure> sum = Figure{};
  add_part(system.cpu.usd_per_hour, system.num_nodes(), sum);
  if (system.gpu) add_part(system.gpu->usd_per_hour, system.num_gpus, sum);
  return sum;
}

FigureKind kind_of(const RateFigures& figures, const System& system, Method method) {
  FigureKind kind = FigureKind::measured;
  for (const UsedFigure& used : used_figures(figures, system, method)) kind = worse(kind, used.figure->kind);
  return kind;
}

void check_method(const System& system, Method method) {
  TANDEM_CHECK(system.gpu || !needs_gpu(method), invalid_argument, "method is ", to_string(method),
               ", which needs a GPU, and ", system.name, " has none; allowed: tandem, host-dense");
}

}  // namespace

double model_error(Method method) noexcept { return attends_on_host(method) ? kHostModelError : kDeviceModelError; }

Prediction predict_with(const RateFigures& figures, const System& system, const ModelShape& model,
                        const StepSettings& settings) {
  validate(settings, model);
  check_method(system, settings.method);
  Prediction prediction;
  prediction.settings = settings;
  std::array<double, std::size(kBounds)> seconds = {};
  for (const Bound bound : kBounds) {
    Schedule schedule = simulate_step(system, model, settings, rates_at(figures, bound));
    seconds[static_cast<std::size_t>(bound)] = schedule.seconds;
    if (bound == Bound::expected) prediction.schedule = std::move(schedule);
  }
  const double error = model_error(settings.method);
  prediction.step_ms = {kMilli * seconds[0], kMilli * seconds[2] * (1 - error), kMilli * seconds[1] * (1 + error)};
  const double tokens = kMilli * settings.batch;
  prediction.tokens_per_s = {tokens / prediction.step_ms.value, tokens / prediction.step_ms.high,
                             tokens / prediction.step_ms.low};
  prediction.memory = memory_of(model, settings, system.num_gpus);
  prediction.kind = kind_of(figures, system, settings.method);
  return prediction;
}

Prediction predict(const System& system, const ModelShape& model, const StepSettings& settings,
                   std::optional<double> usd_per_hour) {
  const RateFigures figures = rate_figures(system, settings);
  Prediction prediction = predict_with(figures, system, model, settings);
  prediction.max_batch = max_batch(system, model, settings);
  if (const auto power = rated_power(system)) {
    const Figure& share = figures.power_share;
    const Estimate watts = {power->value * share.value, power->low * share.low, power->high * share.high};
    prediction.joules_per_token = per_token(watts, prediction.tokens_per_s);
  }
  std::optional<Figure> usd = price(system);
  if (usd_per_hour) usd = Figure{*usd_per_hour, *usd_per_hour, *usd_per_hour, FigureKind::published, "given", 1};
  if (usd) {
    const Estimate per_second = scaled({usd->value, usd->low, usd->high}, kMillion / kSecondsOfAnHour);
    prediction.usd_per_million_tokens = per_token(per_second, prediction.tokens_per_s);
  }
  return prediction;
}

std::vector<Prediction> predict_methods(const System& system, const ModelShape& model, const StepSettings& settings,
                                        const std::vector<Method>& methods, std::optional<double> usd_per_hour) {
  std::vector<Prediction> predictions;
  for (const Method method : methods) {
    if (!system.gpu && needs_gpu(method)) continue;
    StepSettings of_method = settings;
    of_method.method = method;
    if (of_method.batch == 0) {
      of_method.batch = max_batch(system, model, of_method);
      if (of_method.batch < 2) of_method.ping_pong = false;
    }
    if (of_method.batch > 0 && fits(system, model, of_method))
      predictions.push_back(predict(system, model, of_method, usd_per_hour));
  }
  std::stable_sort(predictions.begin(), predictions.end(), [](const Prediction& a, const Prediction& b) {
    return a.tokens_per_s.value > b.tokens_per_s.value;
  });
  return predictions;
}

}  // namespace tandem::plan
