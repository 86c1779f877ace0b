#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace tandem::plan {

/// What works, one thing at a time each, but for waiting: any number of things wait at once.
enum class Lane { device, to_host, to_device, host, waiting };
inline constexpr std::size_t kNumLanes = 5;
inline constexpr Lane kLanes[kNumLanes] = {Lane::device, Lane::to_host, Lane::to_device, Lane::host, Lane::waiting};
const char* to_string(Lane lane) noexcept;  ///< "device", "link to host", "link to device", "host", "hand-off"

/// A piece of work. It starts when all that it comes after have ended and its lane is done with what was added earlier.
struct Task {
  Lane lane = Lane::device;
  double seconds = 0;
  std::vector<std::size_t> after;  ///< indices of earlier tasks
  const char* label = "";          ///< of static storage
  int layer = 0;
  int micro_batch = 0;
};

/// A task with its times, in seconds from the start of the step.
struct Event {
  Lane lane = Lane::device;
  double start = 0;
  double end = 0;
  const char* label = "";
  int layer = 0;
  int micro_batch = 0;
};

/// What became of a list of tasks.
struct Schedule {
  std::vector<Event> events;                ///< one for each task, in their order
  double seconds = 0;                       ///< until the last one ended
  std::array<double, kNumLanes> busy = {};  ///< of each lane
  std::array<double, kNumLanes> critical =
      {};  ///< of each lane, on one longest chain of tasks; they sum up to `seconds`

  /// The lane with the largest part of the critical path.
  [[nodiscard]] Lane bottleneck() const noexcept;
};

/// Runs the tasks, each lane in the order in which they are listed. As the order is fixed, no task ends later because
/// another one became faster. Tasks come after earlier ones only.
Schedule run_lanes(const std::vector<Task>& tasks);

}  // namespace tandem::plan
