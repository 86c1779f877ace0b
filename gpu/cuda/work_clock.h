#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "gpu/cuda/stream.h"
#include "gpu/device.h"

namespace tandem::gpu::cuda {

/// When a stream worked, on the host's clock, by events around its work. Off at first, when it costs nothing. Not
/// thread-safe. Throws Error(device_lost).
class WorkClock {
 public:
  /// On from here: `origin` is an event that a stream has reached, at `time`, as nearly as the host can tell.
  void start(TimedEvent origin, std::chrono::steady_clock::time_point time);
  /// Off; forgets all spans.
  void stop();
  /// The work between these two is a span. `name` outlives the device.
  void begin(const char* name, cudaStream_t stream);
  void end(cudaStream_t stream);
  /// Takes in the spans of work that is over, as begin() does.
  void collect();
  std::int64_t take(DeviceSpan* spans, std::int64_t most);

 private:
  struct Work {
    const char* name;
    TimedEvent begin, end;
  };
  [[nodiscard]] std::chrono::steady_clock::time_point time_of(const TimedEvent& event) const;

  std::optional<TimedEvent> origin_;  ///< none: off
  std::chrono::steady_clock::time_point origin_time_;
  std::deque<Work> pending_;
  bool is_open_ = false;
  std::vector<TimedEvent> idle_;
  std::deque<DeviceSpan> done_;
};

}  // namespace tandem::gpu::cuda
