#include "numa/cgroup_limits.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace tandem::numa {
namespace {

namespace fs = std::filesystem;

// cgroup v1 writes "no limit" as the largest page-aligned 64-bit number; no machine has a memory of this order.
constexpr std::int64_t kHugeBytes = std::int64_t{1} << 60;

std::string first_line(const fs::path& file) {
  std::string line;
  std::ifstream stream(file);
  std::getline(stream, line);
  return line;
}

/// The first integer in `text`; empty for "max" and anything else that is not a number.
std::optional<std::int64_t> parse_integer(const std::string& text) {
  std::int64_t value = 0;
  std::istringstream stream(text);
  if (stream >> value) return value;
  return std::nullopt;
}

template <typename Value>
void tighten(std::optional<Value>& limit, Value candidate) {
  limit = limit ? std::min(*limit, candidate) : candidate;
}

void tighten_memory(CgroupLimits& limits, const fs::path& file) {
  const auto bytes = parse_integer(first_line(file));
  if (bytes && *bytes >= 0 && *bytes < kHugeBytes) tighten(limits.memory_bytes, *bytes);
}

void tighten_cpus(CgroupLimits& limits, std::optional<std::int64_t> quota_us, std::optional<std::int64_t> period_us) {
  if (quota_us && period_us && *quota_us > 0 && *period_us > 0)
    tighten(limits.cpus, static_cast<double>(*quota_us) / static_cast<double>(*period_us));
}

void read_group(CgroupLimits& limits, const fs::path& group) {
  tighten_memory(limits, group / "memory.max");             // v2
  tighten_memory(limits, group / "memory.limit_in_bytes");  // v1
  const std::string cpu_max = first_line(group / "cpu.max");
  const auto space = cpu_max.find(' ');
  if (space != std::string::npos)
    tighten_cpus(limits, parse_integer(cpu_max.substr(0, space)), parse_integer(cpu_max.substr(space)));
  tighten_cpus(limits, parse_integer(first_line(group / "cpu.cfs_quota_us")),
               parse_integer(first_line(group / "cpu.cfs_period_us")));
}

/// Reads the mount's root and every group on the way to `group_path`.
void read_hierarchy(CgroupLimits& limits, const fs::path& mount, const fs::path& group_path) {
  fs::path group = mount;
  read_group(limits, group);
  for (const auto& part : group_path.relative_path()) {
    if (part == "..") return;  // the group lies outside this process's cgroup namespace
    group /= part;
    read_group(limits, group);
  }
}

/// Where the hierarchy of one line's controllers may be mounted: v2 has no controllers.
std::vector<fs::path> mounts_of(const fs::path& cgroup_root, const std::string& controllers) {
  if (controllers.empty()) return {cgroup_root, cgroup_root / "unified"};
  std::vector<fs::path> mounts{cgroup_root / controllers};  // co-mounted controllers, "cpu,cpuacct"
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) mounts.push_back(cgroup_root / name);
  return mounts;
}

}  // namespace

CgroupLimits read_cgroup_limits(const fs::path& root) {
  CgroupLimits limits;
  std::ifstream lines(root / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {  // hierarchy-id:controllers:path
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    for (const auto& mount : mounts_of(root / "sys/fs/cgroup", controllers))
      read_hierarchy(limits, mount, line.substr(second + 1));
  }
  return limits;
}

}  // namespace tandem::numa
