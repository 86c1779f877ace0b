#include "tools/plan/validation.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tools/plan/measured_steps.h"
#include "tools/plan/prediction.h"

namespace tandem::plan {
namespace {

const Catalog& catalog() {
  static const Catalog built_in = Catalog::built_in();
  return built_in;
}

TEST(Validation, TheFrozenRatesAreThoseThatFit) {
  const FittedRates fitted = fit_published(catalog());
  EXPECT_EQ(fitted.points, 12);
  EXPECT_NEAR(fitted.share_of_peak / kMagicPigShareOfPeak, 1, 0.005);
  EXPECT_NEAR(fitted.layer_us / kMagicPigLayerUs, 1, 0.005);
  EXPECT_LT(fitted.rms_error, 0.035);
  EXPECT_LT(fitted.worst_error, 0.08);
}

TEST(Validation, EveryPublishedPointPasses) {
  int unexplained = 0;
  for (const Check& check : check_published(catalog())) {
    EXPECT_TRUE(check.passes()) << check.series << ": " << check.what << " is off by " << check.error();
    unexplained += check.unexplained.empty() ? 0 : 1;
  }
  EXPECT_EQ(unexplained, 1);
}

TEST(Validation, RangesAreWidenedByTheWorstErrorThatIsKnown) {
  double device = 0;
  double host = 0;
  for (const auto& [name, series] : catalog().published()) {
    const System system = system_from(catalog(), series.machine);
    for (const PublishedPoint& point : series.points) {
      if (point.fit || !point.unexplained.empty()) continue;
      const Prediction p = predict(system, catalog().model(point.model), point.settings);
      double& worst = attends_on_host(point.settings.method) ? host : device;
      worst = std::max(worst, std::abs(p.tokens_per_s.value / point.tokens_per_s - 1));
      EXPECT_LE(p.tokens_per_s.low, point.tokens_per_s) << name;
      EXPECT_GE(p.tokens_per_s.high, point.tokens_per_s) << name;
    }
  }
  EXPECT_LE(device, kDeviceModelError);
  EXPECT_GT(device, kDeviceModelError - 0.01) << "rounded up, no more";
  EXPECT_LE(host, kHostModelError);
  EXPECT_GT(host, kHostModelError - 0.01);
}

TEST(Validation, ABadPointFailsUnlessItIsListed) {
  Check check{.series = "",
              .what = "",
              .machine = "",
              .unit = "",
              .known = 10,
              .predicted = {12.6, 12, 13},
              .fit = false,
              .unexplained = ""};
  EXPECT_FALSE(check.passes());
  check.unexplained = "a reason";
  EXPECT_TRUE(check.passes());
  check.unexplained.clear();
  check.predicted.value = 12.4;
  EXPECT_TRUE(check.passes());
}

TEST(MeasuredSteps, AllResultsOfTheProjectArePredicted) {
  const std::vector<MeasuredStep> steps = load_measured_steps(TANDEM_RESULTS_DIR);
  EXPECT_GT(steps.size(), 40u);
  for (const Check& check : check_steps(steps, fit_step_costs(steps)))
    EXPECT_TRUE(check.passes()) << check.series << ": " << check.what << " is off by " << check.error();
}

TEST(MeasuredSteps, FittingFindsTheCostsThatMadeTheTimes) {
  lsh::CostProfile costs;
  costs.dense_row_ns = 30;
  costs.gathered_row_ns = 200;
  costs.selection_ns = 20000;
  std::vector<MeasuredStep> steps;
  for (const std::int64_t tokens : {4096, 16384, 32768})
    for (int bits = 0; bits <= 2; ++bits)
      for (const double budget : {0.01, 0.05}) {
        MeasuredStep step;
        step.selector = bits == 0 ? "all" : "sketch";
        step.sketch_bits = bits;
        step.two_bit_heads = bits == 2 ? 1 : 0;
        step.budget = budget;
        step.tokens = tokens;
        step.num_q_heads = 32;
        step.num_kv_heads = 8;
        step.head_dim = 128;
        step.median_us = predicted_us(step, costs);
        steps.push_back(step);
      }
  const lsh::CostProfile fitted = fit_step_costs(steps);
  EXPECT_NEAR(fitted.dense_row_ns, 30, 0.01);
  EXPECT_NEAR(fitted.gathered_row_ns, 200, 0.1);
  EXPECT_NEAR(fitted.selection_ns, 20000, 20);
}

}  // namespace
}  // namespace tandem::plan
