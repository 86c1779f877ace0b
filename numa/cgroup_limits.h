#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace tandem::numa {

/// What the control groups of a process allow it. An empty field means no limit.
struct CgroupLimits {
  std::optional<std::int64_t> memory_bytes;
  std::optional<double> cpus;  ///< CPU time per wall time, e.g. 1.5
};

/// The tightest limits of all cgroups (v1 and v2, mounted at their usual places) from the process's own up to the root.
///
/// `root` stands for "/": <root>/proc/self/cgroup and <root>/sys/fs/cgroup are read. Missing or malformed files mean no
/// limit, and so do groups that lie outside the mounts (a container sees its own group as the mount's root).
/// Thread-safe. Source: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and
/// scheduler/sched-bwc.rst.
CgroupLimits read_cgroup_limits(const std::filesystem::path& root);

}  // namespace tandem::numa
