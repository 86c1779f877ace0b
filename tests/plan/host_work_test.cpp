#include "tools/plan/host_work.h"

#include <gtest/gtest.h>

namespace tandem::plan {
namespace {

class HostWork : public testing::Test {
 protected:
  [[nodiscard]] double seconds(Method method, int sequences = 1) {
    settings_.method = method;
    return host_seconds(system_, model_, settings_, rates_at(rate_figures(system_, settings_), Bound::expected),
                        sequences);
  }

  Catalog catalog_ = Catalog::built_in();
  System system_ = system_from(catalog_, "l20+xeon-8280");
  ModelShape model_ = catalog_.model("llama-3.1-8b");
  StepSettings settings_{.context = 98304, .window = 1024};
};

TEST_F(HostWork, RowsAreWhatTheWindowDoesNotHold) {
  EXPECT_EQ(host_rows(model_, settings_), 97280);
  settings_.window = 98304;
  EXPECT_EQ(host_rows(model_, settings_), 0);
  EXPECT_EQ(seconds(Method::tandem), 0);
  model_.sliding_window = 4096;
  settings_.window = 1024;
  EXPECT_EQ(host_rows(model_, settings_), 3072);
}

TEST_F(HostWork, DenseIsBytesOverBandwidthWhereMemoryIsSlow) {
  system_.cpu.read_gb_per_s = Figure{10, 10, 10, FigureKind::measured, "", 1};
  EXPECT_NEAR(seconds(Method::host_dense), 97280.0 * 8 * 512 / 10e9, 1e-9);
  EXPECT_NEAR(seconds(Method::host_dense, 3), 3 * 97280.0 * 8 * 512 / 10e9, 1e-9);
}

TEST_F(HostWork, ASketchIsFasterThanAllRowsAndOneGatherFasterThanOneForEveryHead) {
  EXPECT_LT(seconds(Method::tandem), seconds(Method::host_dense) / 4);
  EXPECT_LT(seconds(Method::tandem), seconds(Method::magicpig));
}

TEST_F(HostWork, ASelectionThatDoesNotPayIsNotMade) {
  settings_.budget = 1;
  EXPECT_EQ(seconds(Method::tandem), seconds(Method::host_dense));
}

TEST_F(HostWork, MeasuredStepCostsSayItAll) {
  system_.step_costs = lsh::CostProfile{};
  system_.cpu.read_gb_per_s = Figure{0.2, 0.2, 0.2, FigureKind::measured, "", 1};
  const double by_costs = 97280.0 * 8 * 42e-9 / 28;  // dense rows of the built-in costs, 28 workers
  EXPECT_NEAR(seconds(Method::host_dense), by_costs, 1e-9);
  system_.step_costs->dense_row_ns *= 2;
  EXPECT_NEAR(seconds(Method::host_dense), 2 * by_costs, 1e-9);
}

TEST_F(HostWork, MagicPigByHand) {
  settings_.lsh_tables = 150;
  const double bytes = 32 * (0.02 * 97280 * 512 + 4.0 * 150 * 97280 / 1024);
  EXPECT_NEAR(seconds(Method::magicpig), bytes / (kMagicPigShareOfPeak * 140.8e9), 1e-6);
}

}  // namespace
}  // namespace tandem::plan
