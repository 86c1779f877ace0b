#pragma once

#include <functional>
#include <vector>

#include "numa/topology.h"

namespace tandem::probes {

/// Tells the compiler that somebody looks at `value`, so that what makes it is not left out.
template <typename Value>
void keep(const Value& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

/// Threads that do the same work at the same time, each pinned to a CPU of its own where that is wanted and allowed.
class Team {
 public:
  /// One member per entry of `cpus`, by the operating system's numbers; nobody is pinned on a synthetic topology.
  Team(const numa::Topology& topology, std::vector<int> cpus);
  /// `members` threads that run where the system lets them.
  explicit Team(int members) : cpus_(static_cast<std::size_t>(members), kAnyCpu) {}

  [[nodiscard]] int members() const noexcept { return static_cast<int>(cpus_.size()); }
  /// Calls work(t) once for every member t. Returns microseconds from the first start to the last end; all start
  /// together. `work` must not throw. Throws std::system_error where a thread cannot be had.
  double run(const std::function<void(int)>& work);
  /// Whether the system refused to pin a member in a run() so far.
  [[nodiscard]] bool refused() const noexcept { return refused_; }

 private:
  static constexpr int kAnyCpu = -1;
  bool pin(int cpu) const;

  std::vector<int> cpus_;
  bool refused_ = false;
};

}  // namespace tandem::probes
