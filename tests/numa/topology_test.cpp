#include "numa/topology.h"

#include <cstdlib>
#include <set>
#include <string>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include "runtime/base/error.h"

namespace tandem::numa {
namespace {

/// What holds for every topology, real or imagined.
void expect_sound(const Topology& topology) {
  ASSERT_GE(topology.num_nodes(), 1);
  int cores = 0;
  std::set<int> cpus;
  std::size_t num_cpus = 0;
  for (const Node& node : topology.nodes()) {
    EXPECT_GE(node.num_cores, 1);
    EXPECT_LE(node.num_cores, static_cast<int>(node.cpus.size()));
    EXPECT_GE(node.memory_bytes, 0);
    cores += node.num_cores;
    num_cpus += node.cpus.size();
    cpus.insert(node.cpus.begin(), node.cpus.end());
  }
  EXPECT_EQ(cpus.size(), num_cpus) << "a CPU is listed twice";
  EXPECT_EQ(topology.num_cores(), cores);
  EXPECT_GE(topology.cpu_quota(), 1);
  EXPECT_LE(topology.cpu_quota(), cores);
  EXPECT_GT(topology.memory_limit_bytes(), 0);
  EXPECT_NE(topology.native(), nullptr);
}

TEST(Topology, ReadsThisMachine) {
  const Topology topology = Topology::detect();
  expect_sound(topology);
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  if (!topology.is_this_machine()) GTEST_SKIP() << "hwloc was given another machine";
  for (const Node& node : topology.nodes())
    for (const int cpu : node.cpus) EXPECT_TRUE(CPU_ISSET(cpu, &allowed)) << cpu;
  EXPECT_LE(topology.memory_limit_bytes(), sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
}

// In a process of its own: other threads of this one may have other masks.
TEST(TopologyDeathTest, HonoursTheAffinityMask) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto confined = [] {
    const int cpu = Topology::detect().nodes().back().cpus.back();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) std::_Exit(0);  // not allowed here: nothing to see
    const Topology topology = Topology::detect();
    const bool ok = topology.num_nodes() == 1 && topology.num_cores() == 1 && topology.cpu_quota() == 1 &&
                    topology.nodes()[0].cpus == std::vector{cpu};
    std::_Exit(ok ? 0 : 1);
  };
  EXPECT_EXIT(confined(), testing::ExitedWithCode(0), "");
}

class SyntheticTopology : public testing::TestWithParam<std::tuple<int /*nodes*/, int /*cores*/, int /*pus*/>> {};

TEST_P(SyntheticTopology, HasTheNodesAndCoresOfItsDescription) {
  const auto [nodes, cores, pus] = GetParam();
  const auto topology = Topology::synthetic("node:" + std::to_string(nodes) + " core:" + std::to_string(cores) +
                                            " pu:" + std::to_string(pus));
  expect_sound(topology);
  EXPECT_FALSE(topology.is_this_machine());
  ASSERT_EQ(topology.num_nodes(), nodes);
  EXPECT_EQ(topology.num_cores(), nodes * cores);
  EXPECT_EQ(topology.cpu_quota(), nodes * cores) << "an imagined machine has no quota";
  EXPECT_EQ(topology.memory_limit_bytes(), Topology::detect().memory_limit_bytes());
  for (int n = 0; n < nodes; ++n) {
    const Node& node = topology.nodes()[static_cast<std::size_t>(n)];
    EXPECT_EQ(node.os_index, n);
    EXPECT_EQ(node.num_cores, cores);
    ASSERT_EQ(node.cpus.size(), static_cast<std::size_t>(cores * pus));
    std::set<int> first_cores;  // hwloc numbers the threads of core c as c * pus, c * pus + 1, ...
    for (int c = 0; c < cores; ++c) first_cores.insert(node.cpus[static_cast<std::size_t>(c)] / pus);
    EXPECT_EQ(first_cores.size(), static_cast<std::size_t>(cores)) << "the first CPUs must be on distinct cores";
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, SyntheticTopology,
                         testing::Combine(testing::Values(1, 2, 4), testing::Values(1, 3, 4), testing::Values(1, 2)));

TEST(Topology, AddsUpLastLevelCaches) {
  const auto topology =
      Topology::synthetic("node:2 l3:2(size=8388608) l2:2(size=1048576) l1d:1(size=32768) core:1 pu:2");
  EXPECT_EQ(topology.l1d_bytes(), 32 << 10);
  EXPECT_EQ(topology.l2_bytes(), 1 << 20);
  EXPECT_EQ(topology.last_level_cache_bytes(), 4 * (8 << 20));
}

TEST(Topology, UnknownCachesAreZero) {
  const auto topology = Topology::synthetic("node:1 core:2 pu:1");
  EXPECT_EQ(topology.l1d_bytes(), 0);
  EXPECT_EQ(topology.l2_bytes(), 0);
  EXPECT_EQ(topology.last_level_cache_bytes(), 0);
}

TEST(Topology, MachineWithoutNumaInformationIsOneNode) {
  const auto topology = Topology::synthetic("core:3 pu:1");
  ASSERT_EQ(topology.num_nodes(), 1);
  EXPECT_EQ(topology.num_cores(), 3);
}

TEST(Topology, RefusesNonsense) {
  for (const char* description : {"", "node:", "three nodes", "node:2 core:0"}) {
    try {
      Topology::synthetic(description);
      ADD_FAILURE() << "accepted: " << description;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_THAT(error.what(), testing::HasSubstr('"' + std::string(description) + '"'));
    }
  }
}

TEST(Topology, CopiesOutliveTheOriginal) {
  auto original = std::make_unique<Topology>(Topology::synthetic("node:2 core:2 pu:1"));
  const Topology copy = *original;
  original.reset();
  EXPECT_EQ(copy.num_nodes(), 2);
  EXPECT_NE(copy.native(), nullptr);
}

}  // namespace
}  // namespace tandem::numa
