#include "tools/plan/rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::plan {
namespace {

using tandem::testing::error_message;
using ::testing::HasSubstr;

const Catalog& catalog() {
  static const Catalog built_in = Catalog::built_in();
  return built_in;
}

System system_of(const char* name) { return system_from(catalog(), name); }

TEST(Rates, PeaksAreCutAndMeasuredFiguresAreNot) {
  System system = system_of("h100+epyc-9654");
  EXPECT_DOUBLE_EQ(rate_figures(system, {}).device_gb_per_s.value, 0.8 * 3350);
  EXPECT_EQ(rate_figures(system, {}).device_gb_per_s.kind, FigureKind::assumed);
  system.gpu->read_gb_per_s = Figure{3000, 2950, 3050, FigureKind::measured, "", 3};
  system.cpu.read_gb_per_s = Figure{400, 390, 410, FigureKind::measured, "", 3};
  system.cpu.gather_512_gb_per_s = Figure{200, 190, 210, FigureKind::measured, "", 3};
  const RateFigures rates = rate_figures(system, {});
  EXPECT_EQ(rates.device_gb_per_s.value, 3000);
  EXPECT_EQ(rates.device_gb_per_s.kind, FigureKind::measured);
  EXPECT_EQ(rates.host_gb_per_s.value, 400);
  EXPECT_EQ(rates.gather_gb_per_s.value, 200);
}

TEST(Rates, SeveralPartsTogether) {
  const RateFigures one = rate_figures(system_of("h100+epyc-9654"), {});
  const RateFigures two = rate_figures(system_of("2xh100+2xepyc-9654"), {});
  EXPECT_DOUBLE_EQ(two.device_gb_per_s.value, 2 * one.device_gb_per_s.value);
  EXPECT_DOUBLE_EQ(two.to_device_gb_per_s.low, 2 * one.to_device_gb_per_s.low);
  EXPECT_DOUBLE_EQ(two.host_gb_per_s.high, 2 * one.host_gb_per_s.high);
  EXPECT_GT(two.layer_gap_us.value, one.layer_gap_us.value) << "sums over the GPUs";
}

TEST(Rates, BoundsAreOrderedAndReasonsAreGiven) {
  for (const char* name : {"v100-32", "2xrtx-4090+grace", "xeon-8280"})
    for (const Method method : kMethods) {
      const System system = system_of(name);
      const RateFigures figures = rate_figures(system, {});
      for (const UsedFigure& used : used_figures(figures, system, method)) {
        EXPECT_LE(used.figure->low, used.figure->value) << used.name;
        EXPECT_LE(used.figure->value, used.figure->high) << used.name;
        EXPECT_NE(used.figure->source, "") << used.name;
      }
    }
}

TEST(Rates, TheWorstBoundIsSlowRatesAndLongTimes) {
  const RateFigures figures = rate_figures(system_of("v100-32"), {});
  const StepRates worst = rates_at(figures, Bound::worst);
  const StepRates best = rates_at(figures, Bound::best);
  EXPECT_LT(worst.device_bytes_per_s, best.device_bytes_per_s);
  EXPECT_LT(worst.gather_bytes_per_s, best.gather_bytes_per_s);
  EXPECT_GT(worst.hand_off_s, best.hand_off_s);
  EXPECT_GT(worst.magicpig_layer_s, best.magicpig_layer_s);
  EXPECT_DOUBLE_EQ(rates_at(figures, Bound::expected).hand_off_s, 5e-6);
}

TEST(Rates, CallbacksTakeLonger) {
  const System system = system_of("v100-32");
  EXPECT_EQ(rate_figures(system, {.hand_off = HandOff::callback}).hand_off_us.value, 100);
}

TEST(Rates, WithoutAGpuTheHostIsTheDevice) {
  const RateFigures figures = rate_figures(system_of("epyc-9654"), {});
  EXPECT_EQ(figures.device_gb_per_s.value, figures.host_gb_per_s.value);
  EXPECT_EQ(figures.hand_off_us.value, 0);
}

TEST(Rates, MissingFiguresAreNamed) {
  System system = system_of("h100");
  system.gpu->peak_gb_per_s.reset();
  EXPECT_THAT(error_message([&] { (void)rate_figures(system, {}); }), HasSubstr("h100 has no figure peak_gb_per_s"));
}

}  // namespace
}  // namespace tandem::plan
