#include "tools/probes/host_probes.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::probes {
namespace {

using testing::Contains;
using testing::HasSubstr;

/// Too small for figures, large enough for all that is done.
constexpr HostPlan kTiny{.caches_per_array = 1e-6};

int count_of(const std::vector<HostMeasurement>& all, const std::string& what, bool remote = false) {
  return static_cast<int>(std::count_if(all.begin(), all.end(), [&](const HostMeasurement& m) {
    return m.what == what && (m.node != m.memory_node) == remote;
  }));
}

TEST(HostProbes, MeasureEveryNodeAndEveryPairOfNodes) {
  HostProbes probes(numa::Topology::synthetic("node:2 core:2 pu:1"), kTiny);
  int ticks = 0;
  for (int round = 0; round < 2; ++round) probes.round([&] { ++ticks; });
  const auto all = probes.measurements();
  EXPECT_EQ(ticks, 2 * probes.size());
  EXPECT_EQ(static_cast<int>(all.size()), probes.size());
  for (const char* sweep : {"read", "asking_read", "interleaved_read", "copy", "triad", "fma"})
    EXPECT_EQ(count_of(all, sweep), 4) << sweep;
  EXPECT_EQ(count_of(all, "read", true), 2);
  EXPECT_EQ(count_of(all, "gather"), 2 * 2 * 2 * 2 * 2);  // nodes, cores, pages, row sizes, prefetches
  EXPECT_EQ(count_of(all, "latency"), 4);
  for (const HostMeasurement& m : all) {
    EXPECT_EQ(m.value.samples, 2) << m.what;
    EXPECT_GT(m.value.low, 0) << m.what;
    EXPECT_LE(m.value.low, m.value.median) << m.what;
    EXPECT_LE(m.value.median, m.value.high) << m.what;
    EXPECT_EQ(m.cores, m.all_cores ? 2 : 1) << m.what;
  }
}

TEST(HostProbes, MeasureOnlyWhatFiguresNeedWhenToldSo) {
  HostPlan plan = kTiny;
  plan.alternatives = false;
  HostProbes probes(numa::Topology::synthetic("node:1 core:2 pu:1"), plan);
  probes.round([] {});
  const auto all = probes.measurements();
  EXPECT_EQ(count_of(all, "streaming_copy"), 0);
  EXPECT_EQ(count_of(all, "gather"), 4);
  EXPECT_EQ(count_of(all, "latency"), 1);
  for (const HostMeasurement& m : all) EXPECT_EQ(m.pages, Pages::huge);
}

TEST(HostProbes, OneCoreIsAllCoresOfASmallNode) {
  HostProbes probes(numa::Topology::synthetic("node:1 core:1 pu:1"), kTiny);
  probes.round([] {});
  const auto all = probes.measurements();
  EXPECT_EQ(count_of(all, "read"), 1);
  EXPECT_TRUE(all.front().all_cores);
}

TEST(HostProbes, SayWhatTheyCouldNotDo) {
  const HostProbes probes(numa::Topology::synthetic("node:1 core:1 pu:1"), kTiny);
  EXPECT_THAT(probes.notes(), Contains(HasSubstr("instead of four times the last-level caches")));
  EXPECT_THAT(probes.notes(), Contains(HasSubstr("64 MiB is assumed")));
}

TEST(HostProbes, StayWithinTheMemoryThatTheyAreGiven) {
  HostPlan plan;
  plan.memory_bytes = std::int64_t{160} << 20;
  const HostProbes probes(numa::Topology::synthetic("node:1 core:1 pu:1"), plan);
  EXPECT_EQ(probes.array_bytes(), std::int64_t{40} << 20);  // of four
}

TEST(HostProbes, KnowWhatMemoryThereIs) {
  const auto topology = numa::Topology::detect();
  EXPECT_GT(available_memory_bytes(topology), 0);
  EXPECT_LE(available_memory_bytes(topology), topology.memory_limit_bytes());
  for (int n = 0; n < topology.num_nodes(); ++n) {
    EXPECT_GE(usable_cores(topology, n), 1);
    EXPECT_LE(usable_cores(topology, n), topology.nodes()[static_cast<std::size_t>(n)].num_cores);
  }
}

}  // namespace
}  // namespace tandem::probes
