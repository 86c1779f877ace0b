#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct hwloc_topology;

namespace tandem::numa {

/// One NUMA node as this process may use it.
struct Node {
  int os_index = 0;               ///< the operating system's node number
  std::vector<int> cpus;          ///< OS indices of one hardware thread per usable core, then of their SMT siblings
  int num_cores = 0;              ///< usable physical cores; the first `num_cores` of `cpus` are on distinct cores
  std::int64_t memory_bytes = 0;  ///< memory local to the node, 0 when unknown
};

/// Nodes, cores, caches and memory limits of the machine, or of an imagined one.
///
/// Nodes without usable cores are left out; a machine without NUMA information is one node. Affinity masks and cpusets
/// of containers are honoured. Immutable; copies share the hwloc topology. Thread-safe.
class Topology {
 public:
  /// This machine. Throws Error(unsupported) when hwloc cannot read it.
  static Topology detect();
  /// An imagined machine in hwloc's synthetic notation, e.g. "node:2 core:4 pu:1". Nothing is pinned or bound on it.
  /// Throws Error(invalid_argument) naming the description.
  static Topology synthetic(const std::string& description);

  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return nodes_; }
  [[nodiscard]] int num_nodes() const noexcept { return static_cast<int>(nodes_.size()); }
  [[nodiscard]] int num_cores() const noexcept;                                 ///< usable physical cores of all nodes
  [[nodiscard]] std::int64_t l1d_bytes() const noexcept { return l1d_bytes_; }  ///< of one core, 0 when unknown
  [[nodiscard]] std::int64_t l2_bytes() const noexcept { return l2_bytes_; }    ///< of one core, 0 when unknown
  /// All last-level caches together, 0 when unknown.
  [[nodiscard]] std::int64_t last_level_cache_bytes() const noexcept { return last_level_cache_bytes_; }
  /// The least of physical memory and the memory limits of the cgroups (v1 and v2) this process is in.
  [[nodiscard]] std::int64_t memory_limit_bytes() const noexcept { return memory_limit_bytes_; }
  /// Cores that the cgroup's CPU quota allows, rounded up; num_cores() when there is no quota or a larger one.
  [[nodiscard]] int cpu_quota() const noexcept { return cpu_quota_; }
  /// False for a synthetic topology: pinning and binding are then skipped.
  [[nodiscard]] bool is_this_machine() const noexcept { return is_this_machine_; }
  [[nodiscard]] hwloc_topology* native() const noexcept { return hwloc_.get(); }

 private:
  Topology() = default;
  void read();  // fills the values below from hwloc_

  std::shared_ptr<hwloc_topology> hwloc_;
  std::vector<Node> nodes_;
  std::int64_t l1d_bytes_ = 0;
  std::int64_t l2_bytes_ = 0;
  std::int64_t last_level_cache_bytes_ = 0;
  std::int64_t memory_limit_bytes_ = 0;
  int cpu_quota_ = 0;
  bool is_this_machine_ = false;
};

}  // namespace tandem::numa
