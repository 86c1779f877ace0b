#include "tools/plan/lane_schedule.h"

#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace tandem::plan {
namespace {

double sum(const std::array<double, kNumLanes>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

TEST(LaneSchedule, NothingTakesNoTime) {
  EXPECT_EQ(run_lanes({}).seconds, 0);
  EXPECT_EQ(run_lanes({{Lane::host, 0, {}, "", 0, 0}}).seconds, 0);
}

TEST(LaneSchedule, LanesWorkSideBySideAndWaitForEachOther) {
  const Schedule schedule = run_lanes({{Lane::device, 2, {}, "a", 0, 0},
                                       {Lane::host, 5, {0}, "b", 0, 0},
                                       {Lane::device, 3, {0}, "c", 0, 0},
                                       {Lane::device, 1, {1, 2}, "d", 0, 0}});
  EXPECT_EQ(schedule.seconds, 8);
  EXPECT_EQ(schedule.events[2].start, 2);
  EXPECT_EQ(schedule.events[3].start, 7) << "after the host";
  EXPECT_EQ(schedule.busy[0], 6);
  EXPECT_EQ(schedule.critical[static_cast<std::size_t>(Lane::host)], 5);
  EXPECT_EQ(schedule.critical[static_cast<std::size_t>(Lane::device)], 3);
  EXPECT_EQ(schedule.bottleneck(), Lane::host);
}

TEST(LaneSchedule, OneLaneDoesOneThingAtATimeButManyWait) {
  const auto two_on = [](Lane lane) { return run_lanes({{lane, 2, {}, "", 0, 0}, {lane, 3, {}, "", 0, 0}}).seconds; };
  for (const Lane lane : {Lane::device, Lane::to_host, Lane::to_device, Lane::host}) EXPECT_EQ(two_on(lane), 5);
  EXPECT_EQ(two_on(Lane::waiting), 3);
}

/// Random tasks, each after some of the earlier ones.
std::vector<Task> random_tasks(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < 60; ++i) {
    Task task{kLanes[random() % kNumLanes], 0.125 * (random() % 8), {}, "", 0, 0};
    for (std::size_t k = 0; i > 0 && k < random() % 3; ++k) task.after.push_back(random() % i);
    tasks.push_back(task);
  }
  return tasks;
}

class LaneLaws : public testing::TestWithParam<unsigned> {};

TEST_P(LaneLaws, NoSoonerThanTheBusiestLaneNoLaterThanAllWork) {
  const Schedule schedule = run_lanes(random_tasks(GetParam()));
  for (const Lane lane : kLanes)
    if (lane != Lane::waiting) {
      EXPECT_GE(schedule.seconds, schedule.busy[static_cast<std::size_t>(lane)]);
    }
  EXPECT_LE(schedule.seconds, sum(schedule.busy));
}

TEST_P(LaneLaws, TheCriticalPathHasNoGaps) {
  const Schedule schedule = run_lanes(random_tasks(GetParam()));
  EXPECT_DOUBLE_EQ(sum(schedule.critical), schedule.seconds);
}

TEST_P(LaneLaws, EventsOfALaneDoNotOverlapAndComeAfterTheirCauses) {
  const std::vector<Task> tasks = random_tasks(GetParam());
  const Schedule schedule = run_lanes(tasks);
  std::array<double, kNumLanes> free = {};
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const Event& event = schedule.events[i];
    for (const std::size_t other : tasks[i].after) EXPECT_GE(event.start, schedule.events[other].end);
    if (event.lane == Lane::waiting) continue;
    double& lane_free = free[static_cast<std::size_t>(event.lane)];
    EXPECT_GE(event.start, lane_free);
    lane_free = event.end;
  }
}

TEST_P(LaneLaws, NothingEndsLaterWhenATaskIsFaster) {
  std::vector<Task> tasks = random_tasks(GetParam());
  const double before = run_lanes(tasks).seconds;
  for (Task& task : tasks) {
    const double seconds = std::exchange(task.seconds, task.seconds / 2);
    EXPECT_LE(run_lanes(tasks).seconds, before);
    task.seconds = seconds;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LaneLaws, testing::Range(1u, 9u));

}  // namespace
}  // namespace tandem::plan
