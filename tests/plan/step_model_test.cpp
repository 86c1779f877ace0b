#include "tools/plan/step_model.h"

#include <cmath>
#include <string>

#include <gtest/gtest.h>

namespace tandem::plan {
namespace {

const Catalog& catalog() {
  static const Catalog built_in = Catalog::built_in();
  return built_in;
}

constexpr auto kDevice = static_cast<std::size_t>(Lane::device);
constexpr auto kHost = static_cast<std::size_t>(Lane::host);
constexpr auto kToDevice = static_cast<std::size_t>(Lane::to_device);

class StepLaws : public testing::TestWithParam<std::tuple<Method, bool /*ping-pong*/, const char* /*machine*/>> {
 protected:
  StepLaws() : system_(system_from(catalog(), std::get<2>(GetParam()))), model_(catalog().model("llama-3.1-8b")) {
    settings_.method = std::get<0>(GetParam());
    settings_.ping_pong = std::get<1>(GetParam());
    settings_.context = 98304;
    settings_.batch = 6;
    settings_.dense_layers = 2;
    rates_ = rates_at(rate_figures(system_, settings_), Bound::expected);
  }

  [[nodiscard]] Schedule step() const { return simulate_step(system_, model_, settings_, rates_); }

  System system_;
  ModelShape model_;
  StepSettings settings_;
  StepRates rates_;
};

TEST_P(StepLaws, NeverBelowTheBusiestLane) {
  const Schedule schedule = step();
  for (const Lane lane : kLanes)
    if (lane != Lane::waiting) {
      EXPECT_GE(schedule.seconds * (1 + 1e-12), schedule.busy[static_cast<std::size_t>(lane)]);
    }
}

TEST_P(StepLaws, MonotoneInEveryRate) {
  const double before = step().seconds;
  const auto expect_no_slower = [&](double StepRates::*rate, double factor) {
    const double saved = rates_.*rate;
    rates_.*rate = saved * factor;
    EXPECT_LE(step().seconds, before * (1 + 1e-12));
    rates_.*rate = saved;
  };
  for (const auto rate :
       {&StepRates::device_bytes_per_s, &StepRates::device_flop_per_s, &StepRates::to_device_bytes_per_s,
        &StepRates::to_host_bytes_per_s, &StepRates::host_bytes_per_s, &StepRates::gather_bytes_per_s,
        &StepRates::worker_speed, &StepRates::magicpig_bytes_per_s})
    expect_no_slower(rate, 1.3);
  for (const auto time : {&StepRates::layer_gap_s, &StepRates::hand_off_s, &StepRates::magicpig_layer_s})
    expect_no_slower(time, 0.7);
}

TEST_P(StepLaws, MonotoneInContextBatchAndLayers) {
  const double before = step().seconds;
  settings_.context = 131072;
  EXPECT_GE(step().seconds, before);
  settings_.context = 98304;
  settings_.batch = 8;
  EXPECT_GE(step().seconds, before);
  settings_.batch = 6;
  model_.num_layers = 33;
  EXPECT_GE(step().seconds, before);
}

TEST_P(StepLaws, EventsCoverEveryLayerOnce) {
  const int halves = settings_.ping_pong ? 2 : 1;
  int attended = 0;
  int logits = 0;
  for (const Event& event : step().events) {
    const std::string label = event.label;
    attended += label == "window" || label == "attention" ? 1 : 0;
    logits += label == "logits" ? 1 : 0;
  }
  EXPECT_EQ(attended, halves * model_.num_layers);
  EXPECT_EQ(logits, halves);
}

INSTANTIATE_TEST_SUITE_P(Machines, StepLaws,
                         testing::Combine(testing::ValuesIn(kMethods), testing::Bool(),
                                          testing::Values("v100-32+xeon-8280", "2xh100+grace")));
INSTANTIATE_TEST_SUITE_P(Processors, StepLaws,
                         testing::Combine(testing::Values(Method::tandem, Method::host_dense), testing::Bool(),
                                          testing::Values("epyc-9654")));

struct Small {
  System system = system_from(catalog(), "l20+2xxeon-8563c");
  ModelShape model = catalog().model("llama-3.1-8b");
  StepSettings settings;
  StepRates rates = rates_at(rate_figures(system, settings), Bound::expected);

  [[nodiscard]] LayerTimes times(bool dense) const {
    return layer_times(system, model, settings, rates, settings.batch, dense);
  }
  [[nodiscard]] double closed(double of_a_sparse_layer) const {
    const int dense = settings.method == Method::gpu ? model.num_layers : settings.dense_layers;
    const LayerTimes t = times(true);
    return dense * (t.before_attention + t.device_attention + t.behind_attention) +
           (model.num_layers - dense) * of_a_sparse_layer + output_seconds(model, settings, rates, settings.batch);
  }
  [[nodiscard]] double simulated() const { return simulate_step(system, model, settings, rates).seconds; }
};

TEST(StepModel, EqualsTheClosedFormulaWhereNothingOverlaps) {
  Small s;
  s.settings = {.method = Method::gpu, .context = 98304, .batch = 2};
  EXPECT_NEAR(s.simulated(), s.closed(0), 1e-12);
  s.settings = {.method = Method::host_dense, .context = 98304, .batch = 2, .window = 1, .dense_layers = 2};
  const LayerTimes t = s.times(false);
  ASSERT_LT(t.device_attention, t.host);
  EXPECT_NEAR(s.simulated(),
              s.closed(t.before_attention + t.to_host + 2 * t.hand_off + t.host + t.to_device + t.behind_attention),
              1e-12);
}

TEST(StepModel, AWindowThatTakesLongerThanTheHostHidesIt) {
  Small s;
  s.settings = {.method = Method::tandem, .context = 98304, .batch = 2, .window = 90000};
  s.rates.device_bytes_per_s /= 100;
  const LayerTimes t = s.times(false);
  ASSERT_GT(t.device_attention, t.to_host + 2 * t.hand_off + t.host + t.to_device);
  EXPECT_NEAR(s.simulated(), s.closed(t.before_attention + t.device_attention + t.behind_attention), 1e-9);
}

TEST(StepModel, CopiesOfSwapOverlapWithTheDevice) {
  Small s;
  s.settings = {.method = Method::swap, .context = 98304, .batch = 1};
  const Schedule schedule = simulate_step(s.system, s.model, s.settings, s.rates);
  const LayerTimes t = s.times(false);
  EXPECT_NEAR(schedule.busy[kToDevice], 32 * t.to_device, 1e-9);
  EXPECT_LT(schedule.seconds, schedule.busy[kToDevice] + schedule.busy[kDevice]);
  EXPECT_EQ(schedule.bottleneck(), Lane::to_device);
}

TEST(StepModel, PingPongCountsNoAttentionTwiceButReadsTheWeightsTwice) {
  Small s;
  for (const Method method : {Method::tandem, Method::magicpig, Method::host_dense, Method::swap}) {
    s.settings = {.method = method, .context = 98304, .batch = 7, .dense_layers = 2};
    const Schedule alone = simulate_step(s.system, s.model, s.settings, s.rates);
    s.settings.ping_pong = true;
    const Schedule halves = simulate_step(s.system, s.model, s.settings, s.rates);
    EXPECT_NEAR(halves.busy[kHost], alone.busy[kHost], 1e-9);
    EXPECT_NEAR(halves.busy[kToDevice], alone.busy[kToDevice], 1e-9);
    EXPECT_GT(halves.busy[kDevice], alone.busy[kDevice]);
  }
}

TEST(StepModel, PingPongPaysWhereHostAndDeviceAreBothBusy) {
  Small s;
  s.settings = {.method = Method::host_dense, .context = 32768, .batch = 16, .dense_layers = 16};
  const double alone = s.simulated();
  s.settings.ping_pong = true;
  EXPECT_LT(s.simulated(), alone);
  s.settings = {.method = Method::host_dense, .context = 2048, .batch = 2, .ping_pong = true};
  const double halves = s.simulated();
  s.settings.ping_pong = false;
  EXPECT_GT(halves, s.simulated()) << "the weights dominate";
}

TEST(StepModel, ContextsWithinTheWindowNeedNoHost) {
  Small s;
  s.settings = {.method = Method::tandem, .context = 512, .batch = 1};
  EXPECT_EQ(simulate_step(s.system, s.model, s.settings, s.rates).busy[kHost], 0);
  const double window = s.simulated();
  s.settings.method = Method::gpu;
  EXPECT_NEAR(window, s.simulated(), 1e-12);
}

TEST(StepModel, EveryFigureIsFiniteForTheSmallestModel) {
  Small s;
  s.model = {};
  s.model.max_context = 16;
  for (const Method method : kMethods) {
    s.settings = {.method = method, .context = 1, .batch = 1};
    EXPECT_TRUE(std::isfinite(s.simulated())) << to_string(method);
    EXPECT_GT(s.simulated(), 0);
  }
}

}  // namespace
}  // namespace tandem::plan
