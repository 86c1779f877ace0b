#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tools/probes/node_memory.h"
#include "tools/probes/spread.h"

namespace tandem::probes {

/// How long and how large.
struct HostPlan {
  double caches_per_array = 4;    ///< bytes of an array in those of all last-level caches: STREAM's rule
  std::int64_t memory_bytes = 0;  ///< that all arrays may take; 0: half of what there is
  bool alternatives = true;       ///< also what no figure needs: other pages, stores and cores
};

/// One thing that was measured.
struct HostMeasurement {
  std::string what;     ///< "read", "asking_read", "interleaved_read", "copy", "plain_copy", "streaming_copy", "triad",
                        ///< "gather", ..
  std::string unit;     ///< "GB/s", "ns", "GFLOP/s"
  int node = 0;         ///< whose cores
  int memory_node = 0;  ///< whose memory
  int cores = 1;        ///< at work
  bool all_cores = false;
  Pages pages = Pages::huge;
  std::int64_t row_bytes = 0;  ///< of gathers
  bool prefetch = false;       ///< of gathers
  Spread value = {};
};

/// Measures the memory and the arithmetic of the host's NUMA nodes: everything once a round, so that what disturbs the
/// machine for a while disturbs all of it alike. Before everything that the caches could answer they are filled with
/// something else. Threads are pinned to cores of their node, one a core.
class HostProbes {
 public:
  /// Takes the memory and writes it. Throws Error(out_of_memory).
  HostProbes(const numa::Topology& topology, const HostPlan& plan);
  ~HostProbes();
  HostProbes(const HostProbes&) = delete;
  HostProbes& operator=(const HostProbes&) = delete;

  /// Measurements of a round.
  [[nodiscard]] int size() const noexcept;
  /// Calls `tick` after each.
  void round(const std::function<void()>& tick);

  /// What all rounds gave.
  [[nodiscard]] std::vector<HostMeasurement> measurements() const;
  /// What could not be measured as it should be, in sentences.
  [[nodiscard]] std::vector<std::string> notes() const;
  [[nodiscard]] std::int64_t array_bytes() const noexcept;
  /// Bytes that all last-level caches have together; 64 MiB where that is not known.
  [[nodiscard]] std::int64_t cache_bytes() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Cores of a node that are measured: its share of those that the control groups of the process allow.
int usable_cores(const numa::Topology& topology, int node);

/// Bytes of memory that are free or can be freed, by the system and within the limits of the process.
std::int64_t available_memory_bytes(const numa::Topology& topology);

}  // namespace tandem::probes
