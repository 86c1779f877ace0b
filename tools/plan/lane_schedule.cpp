#include "tools/plan/lane_schedule.h"

#include <algorithm>
#include <cassert>

namespace tandem::plan {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

constexpr std::size_t index_of(Lane lane) noexcept { return static_cast<std::size_t>(lane); }

/// Follows from the last event back what each one waited for.
void mark_critical(const std::vector<std::size_t>& waited_for, std::size_t last, Schedule& schedule) {
  for (std::size_t i = last; i != kNone; i = waited_for[i]) {
    const Event& event = schedule.events[i];
    schedule.critical[index_of(event.lane)] += event.end - event.start;
  }
}

}  // namespace

const char* to_string(Lane lane) noexcept {
  constexpr const char* kNames[] = {"device", "link to host", "link to device", "host", "hand-off"};
  return kNames[index_of(lane)];
}

Lane Schedule::bottleneck() const noexcept {
  return kLanes[std::max_element(critical.begin(), critical.end()) - critical.begin()];
}

Schedule run_lanes(const std::vector<Task>& tasks) {
  Schedule schedule;
  schedule.events.reserve(tasks.size());
  std::array<std::size_t, kNumLanes> last_of_lane;
  last_of_lane.fill(kNone);
  std::vector<std::size_t> waited_for(tasks.size(), kNone);
  std::size_t last = kNone;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const Task& task = tasks[i];
    double start = 0;
    const auto wait_for = [&](std::size_t other) {
      if (waited_for[i] != kNone && schedule.events[other].end <= start) return;
      start = schedule.events[other].end;
      waited_for[i] = other;
    };
    for (const std::size_t other : task.after) {
      assert(other < i);
      wait_for(other);
    }
    std::size_t& previous = last_of_lane[index_of(task.lane)];
    if (task.lane != Lane::waiting && previous != kNone) wait_for(previous);
    previous = i;
    schedule.events.push_back({task.lane, start, start + task.seconds, task.label, task.layer, task.micro_batch});
    schedule.busy[index_of(task.lane)] += task.seconds;
    if (last == kNone || schedule.events[i].end > schedule.events[last].end) last = i;
  }
  if (last == kNone) return schedule;
  schedule.seconds = schedule.events[last].end;
  mark_critical(waited_for, last, schedule);
  return schedule;
}

}  // namespace tandem::plan
