#include "tools/probes/host_probes.h"

#include <algorithm>
#include <deque>
#include <fstream>

#include "runtime/base/error.h"
#include "tools/probes/arithmetic.h"
#include "tools/probes/chase.h"
#include "tools/probes/gather.h"
#include "tools/probes/sequential.h"

namespace tandem::probes {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20, kPageBytes = 2 * kMiB;
constexpr std::int64_t kUnknownCacheBytes = 64 * kMiB, kLeastArrayBytes = 16 * kMiB;
constexpr std::int64_t kGatherBytes = 64 * kMiB;  // of a measurement: far less than an array, so that no row is near
constexpr std::int64_t kChaseSteps = 150'000;
constexpr int kArraysPerNode = 4;

/// What one node brings along.
struct NodeTeam {
  Team all, one;
  std::unique_ptr<NodeMemory> memory = nullptr;
};

struct Probe {
  HostMeasurement what;
  std::function<double(std::int64_t round)> go;
  std::vector<double> values = {};
};

std::int64_t chosen_array_bytes(const numa::Topology& topology, const HostPlan& plan, std::int64_t cache) {
  const std::int64_t budget = plan.memory_bytes > 0 ? std::min(plan.memory_bytes, available_memory_bytes(topology))
                                                    : available_memory_bytes(topology) / 2;
  std::int64_t most = budget / (std::int64_t{kArraysPerNode} * topology.num_nodes());
  for (const numa::Node& node : topology.nodes())
    if (node.memory_bytes > 0) most = std::min(most, node.memory_bytes / (2 * kArraysPerNode));
  const auto wanted = static_cast<std::int64_t>(plan.caches_per_array * static_cast<double>(cache));
  return std::max(kLeastArrayBytes, std::min(wanted, most) / kPageBytes * kPageBytes);
}

}  // namespace

int usable_cores(const numa::Topology& topology, int node) {
  const std::int64_t cores = topology.nodes()[static_cast<std::size_t>(node)].num_cores;
  const std::int64_t share = topology.cpu_quota() * cores / std::max(1, topology.num_cores());
  return static_cast<int>(std::clamp<std::int64_t>(share, 1, cores));
}

std::int64_t available_memory_bytes(const numa::Topology& topology) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    constexpr std::string_view kName = "MemAvailable:";
    if (line.starts_with(kName))
      return std::min(topology.memory_limit_bytes(), std::int64_t{std::stoll(line.substr(kName.size()))} * 1024);
  }
  return topology.memory_limit_bytes();
}

struct HostProbes::State {
  State(const numa::Topology& given, const HostPlan& given_plan)
      : topology(given),
        plan(given_plan),
        cache(given.last_level_cache_bytes() > 0 ? given.last_level_cache_bytes() : kUnknownCacheBytes),
        array_bytes(chosen_array_bytes(given, given_plan, cache)),
        ledger(kArraysPerNode * array_bytes * given.num_nodes() + kMiB) {
    for (int n = 0; n < topology.num_nodes(); ++n) {
      const auto& node = topology.nodes()[static_cast<std::size_t>(n)];
      std::vector<int> cpus(node.cpus.begin(), node.cpus.begin() + usable_cores(topology, n));
      nodes.push_back({Team(topology, cpus), Team(topology, {cpus.front()})});
      nodes.back().memory = std::make_unique<NodeMemory>(topology, n, array_bytes, nodes.back().all, ledger);
    }
    for (int n = 0; n < topology.num_nodes(); ++n) {
      add_node(n);
      for (int m = 0; m < topology.num_nodes(); ++m)
        if (m != n) add_remote(n, m);
    }
  }

  void add(HostMeasurement what, std::function<double(std::int64_t)> go) {
    probes.push_back({std::move(what), std::move(go)});
  }

  void add_node(int n) {
    NodeTeam& node = nodes[static_cast<std::size_t>(n)];
    for (Team* team : {&node.all, &node.one}) {
      if (team == &node.one && node.all.members() == 1) continue;
      add_sweeps(n, *team);
      for (const Pages pages : {Pages::huge, Pages::small}) add_gathers(n, *team, pages);
      add({"fma", "GFLOP/s", n, n, team->members(), team == &node.all},
          [team](std::int64_t) { return fma_gflop_per_s(*team); });
    }
    for (const Pages pages : {Pages::huge, Pages::small}) add_latency(n, pages);
  }

  void add_sweeps(int n, Team& team) {
    NodeTeam& node = nodes[static_cast<std::size_t>(n)];
    const NodeMemory* const m = node.memory.get();
    const bool all = &team == &node.all;
    const std::int64_t bytes = array_bytes;
    Team* const t = &team;
    const auto sweep = [&](const char* name, auto go) {
      add({name, "GB/s", n, n, t->members(), all}, [go](std::int64_t) { return go(); });
    };
    sweep("read", [=] { return read_gb_per_s(*t, m->a(), 3 * bytes); });
    sweep("asking_read", [=] { return asking_read_gb_per_s(*t, m->a(), 3 * bytes); });
    sweep("interleaved_read", [=] { return interleaved_read_gb_per_s(*t, m->a(), 3 * bytes); });
    sweep("copy", [=] { return copy_gb_per_s(*t, m->a(), m->c(), bytes); });
    sweep("triad", [=] { return triad_gb_per_s(*t, m->a(), m->b(), m->c(), bytes); });
    if (!plan.alternatives) return;
    sweep("plain_copy", [=] { return plain_copy_gb_per_s(*t, m->a(), m->c(), bytes); });
    if (!has_streaming_stores()) return;
    sweep("streaming_copy", [=] { return streaming_copy_gb_per_s(*t, m->a(), m->c(), bytes); });
    sweep("streaming_triad", [=] { return streaming_triad_gb_per_s(*t, m->a(), m->b(), m->c(), bytes); });
  }

  /// Leaves parts of b and c in the caches, twice as large as these, and nothing of the arrays with links.
  void wash(NodeTeam& node) const {
    (void)read_gb_per_s(node.all, node.memory->b(), std::min(2 * cache, 2 * array_bytes));
  }

  void add_gathers(int n, Team& team, Pages pages) {
    NodeTeam* const node = &nodes[static_cast<std::size_t>(n)];
    for (const std::int64_t row_bytes : {256, 512}) {
      for (const bool prefetch : {true, false}) {
        const bool needed = pages == Pages::huge && prefetch;
        if (!needed && !plan.alternatives) continue;
        add({"gather", "GB/s", n, n, team.members(), &team == &node->all, pages, row_bytes, prefetch},
            [=, this, team = &team](std::int64_t round) {
              wash(*node);
              const std::int64_t rows = std::min(kGatherBytes, array_bytes / 4) / row_bytes;
              return gather_gb_per_s(*team, node->memory->links(pages), array_bytes,
                                     {row_bytes, rows, round * rows, prefetch});
            });
      }
    }
  }

  void add_latency(int n, Pages pages) {
    NodeTeam* const node = &nodes[static_cast<std::size_t>(n)];
    if (pages == Pages::small && !plan.alternatives) return;
    add({"latency", "ns", n, n, 1, false, pages}, [=, this](std::int64_t round) {
      wash(*node);
      const std::int64_t steps = std::min(kChaseSteps, links_in(array_bytes) / 2);
      return chase_ns(node->one, node->memory->links(pages), array_bytes, round * steps, steps);
    });
  }

  void add_remote(int n, int memory_node) {
    Team* const team = &nodes[static_cast<std::size_t>(n)].all;
    const NodeMemory* const m = nodes[static_cast<std::size_t>(memory_node)].memory.get();
    add({"read", "GB/s", n, memory_node, team->members(), true},
        [=, this](std::int64_t) { return read_gb_per_s(*team, m->a(), 3 * array_bytes); });
    add({"asking_read", "GB/s", n, memory_node, team->members(), true},
        [=, this](std::int64_t) { return asking_read_gb_per_s(*team, m->a(), 3 * array_bytes); });
    add({"interleaved_read", "GB/s", n, memory_node, team->members(), true},
        [=, this](std::int64_t) { return interleaved_read_gb_per_s(*team, m->a(), 3 * array_bytes); });
  }

  const numa::Topology topology;
  const HostPlan plan;
  const std::int64_t cache, array_bytes;
  numa::MemoryLedger ledger;
  std::deque<NodeTeam> nodes;  // which probes point to
  std::vector<Probe> probes;
  std::int64_t rounds = 0;
};

HostProbes::HostProbes(const numa::Topology& topology, const HostPlan& plan)
    : state_(std::make_unique<State>(topology, plan)) {}

HostProbes::~HostProbes() = default;

int HostProbes::size() const noexcept { return static_cast<int>(state_->probes.size()); }

void HostProbes::round(const std::function<void()>& tick) {
  for (Probe& probe : state_->probes) {
    probe.values.push_back(probe.go(state_->rounds));
    tick();
  }
  ++state_->rounds;
}

std::vector<HostMeasurement> HostProbes::measurements() const {
  std::vector<HostMeasurement> all;
  for (const Probe& probe : state_->probes) {
    all.push_back(probe.what);
    all.back().value = spread_of(probe.values);
  }
  return all;
}

std::vector<std::string> HostProbes::notes() const {
  std::vector<std::string> notes;
  const State& s = *state_;
  const auto mib = [](std::int64_t bytes) { return bytes / kMiB; };
  if (s.array_bytes < 4 * s.cache)
    notes.push_back(concat("arrays of ", mib(s.array_bytes),
                           " MiB instead of four times the last-level caches, which have ", mib(s.cache), " MiB"));
  if (s.topology.last_level_cache_bytes() == 0)
    notes.push_back("the size of the last-level cache is not known: 64 MiB is assumed");
  if (s.topology.cpu_quota() < s.topology.num_cores())
    notes.push_back(concat("the control group allows ", s.topology.cpu_quota(), " of ", s.topology.num_cores(),
                           " cores: so many are measured"));
  for (std::size_t n = 0; n < s.nodes.size(); ++n) {
    const NodeTeam& node = s.nodes[n];
    const double share = node.memory->huge_share();
    if (node.all.refused() || node.one.refused())
      notes.push_back(concat("node ", n, ": the system refuses to pin threads: measured without"));
    if (share < 0) {
      notes.push_back(concat("node ", n, ": the system does not say which pages are huge"));
    } else if (share < 0.9) {
      notes.push_back(
          concat("node ", n, ": ", static_cast<int>(100 * share), " % of the arrays for huge pages lie in huge pages"));
    }
    if (!node.memory->has_small_pages())
      notes.push_back(concat("node ", n, ": the system gives huge pages where small ones were asked for"));
  }
  return notes;
}

std::int64_t HostProbes::array_bytes() const noexcept { return state_->array_bytes; }
std::int64_t HostProbes::cache_bytes() const noexcept { return state_->cache; }

}  // namespace tandem::probes
