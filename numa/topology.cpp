#include "numa/topology.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

#include <unistd.h>

#include "numa/cgroup_limits.h"
#include "numa/hwloc_bitmap.h"
#include "runtime/base/error.h"

namespace tandem::numa {
namespace {

std::shared_ptr<hwloc_topology> make_hwloc() {
  hwloc_topology_t topology = nullptr;
  TANDEM_CHECK(hwloc_topology_init(&topology) == 0, unsupported, "hwloc cannot be initialised");
  return {topology, hwloc_topology_destroy};
}

/// CPUs that both the cpusets of containers and the affinity mask of the process allow.
Bitmap usable_cpus(hwloc_topology_t topology, bool is_this_machine) {
  Bitmap usable = make_bitmap();
  hwloc_bitmap_and(usable.get(), hwloc_get_root_obj(topology)->cpuset, hwloc_topology_get_allowed_cpuset(topology));
  if (!is_this_machine) return usable;
  // The union over all threads where the system tells it: one pinned thread does not confine the process.
  const Bitmap bound = make_bitmap();
  const bool known = hwloc_get_proc_cpubind(topology, getpid(), bound.get(), 0) == 0 ||
                     hwloc_get_cpubind(topology, bound.get(), HWLOC_CPUBIND_THREAD) == 0;
  if (known && hwloc_bitmap_intersects(usable.get(), bound.get()))
    hwloc_bitmap_and(usable.get(), usable.get(), bound.get());
  return usable;
}

/// Fills the cores and CPUs of `node` from the set `cpus`.
void read_cpus(hwloc_topology_t topology, hwloc_const_bitmap_t cpus, Node& node) {
  struct Thread {
    int rank;  // among the usable hardware threads of its core
    int os_index;
  };
  std::vector<Thread> threads;
  hwloc_obj_t previous_core = nullptr;
  hwloc_obj_t pu = nullptr;
  while ((pu = hwloc_get_next_obj_inside_cpuset_by_type(topology, cpus, HWLOC_OBJ_PU, pu)) != nullptr) {
    hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
    if (core == nullptr) core = pu;
    const int rank = core == previous_core ? threads.back().rank + 1 : 0;
    previous_core = core;
    threads.push_back({rank, static_cast<int>(pu->os_index)});
    if (rank == 0) ++node.num_cores;
  }
  std::stable_sort(threads.begin(), threads.end(), [](Thread a, Thread b) { return a.rank < b.rank; });
  for (const Thread& thread : threads) node.cpus.push_back(thread.os_index);
}

std::vector<hwloc_obj_t> numa_objects(hwloc_topology_t topology) {
  std::vector<hwloc_obj_t> objects;
  hwloc_obj_t object = nullptr;
  while ((object = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, object)) != nullptr)
    objects.push_back(object);
  std::stable_sort(objects.begin(), objects.end(),
                   [](hwloc_obj_t a, hwloc_obj_t b) { return a->os_index < b->os_index; });
  return objects;
}

/// Nodes with usable cores. hwloc 2 always knows at least one node.
std::vector<Node> read_nodes(hwloc_topology_t topology, hwloc_const_bitmap_t usable) {
  std::vector<Node> nodes;
  // Memory-only nodes (HBM, CXL) show the cores they are near to; those belong to the node with the lower number.
  const Bitmap unclaimed = make_bitmap();
  hwloc_bitmap_copy(unclaimed.get(), usable);
  const Bitmap cpus = make_bitmap();
  for (const hwloc_obj_t object : numa_objects(topology)) {
    hwloc_bitmap_and(cpus.get(), object->cpuset, unclaimed.get());
    hwloc_bitmap_andnot(unclaimed.get(), unclaimed.get(), cpus.get());
    Node node;
    node.os_index = static_cast<int>(object->os_index);
    node.memory_bytes = static_cast<std::int64_t>(object->attr->numanode.local_memory);
    read_cpus(topology, cpus.get(), node);
    if (node.num_cores > 0) nodes.push_back(std::move(node));
  }
  return nodes;
}

/// Size of the data cache of `type` that serves `pu`, 0 when unknown.
std::int64_t cache_bytes(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_obj_t pu) {
  const hwloc_obj_t cache = hwloc_get_ancestor_obj_by_type(topology, type, pu);
  return cache == nullptr ? 0 : static_cast<std::int64_t>(cache->attr->cache.size);
}

/// Sum over the outermost caches that usable CPUs share.
std::int64_t all_last_level_caches(hwloc_topology_t topology, hwloc_const_bitmap_t usable) {
  constexpr std::array kOutermostFirst{HWLOC_OBJ_L5CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L2CACHE,
                                       HWLOC_OBJ_L1CACHE};
  for (const auto type : kOutermostFirst) {
    std::int64_t bytes = 0;
    hwloc_obj_t cache = nullptr;
    while ((cache = hwloc_get_next_obj_by_type(topology, type, cache)) != nullptr) {
      if (hwloc_bitmap_intersects(cache->cpuset, usable)) bytes += static_cast<std::int64_t>(cache->attr->cache.size);
    }
    if (bytes > 0) return bytes;
  }
  return 0;
}

std::int64_t physical_memory_bytes() {
  return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

Topology Topology::detect() {
  Topology topology;
  topology.hwloc_ = make_hwloc();
  TANDEM_CHECK(hwloc_topology_load(topology.native()) == 0, unsupported,
               "hwloc cannot read the topology of this machine");
  topology.read();
  return topology;
}

Topology Topology::synthetic(const std::string& description) {
  Topology topology;
  topology.hwloc_ = make_hwloc();
  const bool ok = hwloc_topology_set_synthetic(topology.native(), description.c_str()) == 0 &&
                  hwloc_topology_load(topology.native()) == 0;
  TANDEM_CHECK(ok, invalid_argument, "not a synthetic topology of hwloc: \"", description, "\"");
  topology.read();
  return topology;
}

int Topology::num_cores() const noexcept {
  return std::accumulate(nodes_.begin(), nodes_.end(), 0,
                         [](int sum, const Node& node) { return sum + node.num_cores; });
}

void Topology::read() {
  hwloc_topology_t topology = native();
  // False also when the user's environment (HWLOC_XMLFILE, HWLOC_SYNTHETIC) shows detect() another machine.
  is_this_machine_ = hwloc_topology_is_thissystem(topology) != 0;
  const Bitmap usable = usable_cpus(topology, is_this_machine_);
  nodes_ = read_nodes(topology, usable.get());
  TANDEM_CHECK(!nodes_.empty(), unsupported, "hwloc shows no core that this process may use");

  const auto first_cpu = static_cast<unsigned>(nodes_.front().cpus.front());
  const hwloc_obj_t pu = hwloc_get_pu_obj_by_os_index(topology, first_cpu);
  l1d_bytes_ = cache_bytes(topology, HWLOC_OBJ_L1CACHE, pu);
  l2_bytes_ = cache_bytes(topology, HWLOC_OBJ_L2CACHE, pu);
  last_level_cache_bytes_ = all_last_level_caches(topology, usable.get());

  const CgroupLimits limits = read_cgroup_limits("/");
  memory_limit_bytes_ = std::min(physical_memory_bytes(), limits.memory_bytes.value_or(physical_memory_bytes()));
  cpu_quota_ = num_cores();
  if (is_this_machine_ && limits.cpus && *limits.cpus < cpu_quota_)
    cpu_quota_ = std::max(1, static_cast<int>(std::ceil(*limits.cpus)));
}

}  // namespace tandem::numa
