#include "runtime/base/trace.h"

#include <set>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Trace, EveryStageHasItsOwnName) {
  std::set<std::string> names;
  for (int i = 0; i < kNumStages; ++i) names.insert(to_string(static_cast<Stage>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kNumStages));
  EXPECT_STREQ(to_string(Stage::append), "append");
  EXPECT_STREQ(to_string(Stage::merge), "merge");
}

TEST(Trace, AddingAddsEveryStage) {
  StageTrace a;
  StageTrace b;
  for (int i = 0; i < kNumStages; ++i) {
    a[static_cast<Stage>(i)] = {1.0 * i, 10 * i};
    b[static_cast<Stage>(i)] = {0.5, std::int64_t{1} << 40};
  }
  a += b;
  a += StageTrace{};
  for (int i = 0; i < kNumStages; ++i) {
    EXPECT_EQ(a[static_cast<Stage>(i)].us, i + 0.5);
    EXPECT_EQ(a[static_cast<Stage>(i)].bytes, 10 * i + (std::int64_t{1} << 40));
    EXPECT_EQ(b[static_cast<Stage>(i)].us, 0.5);
  }
}

TEST(Trace, StopwatchMeasuresLapsNotTheTotal) {
  Stopwatch watch;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double slept = watch.lap_us();
  const double next = watch.lap_us();
  EXPECT_GE(slept, 20'000.0);
  EXPECT_GE(next, 0.0);
  EXPECT_LT(next, slept);
}

}  // namespace
}  // namespace tandem
