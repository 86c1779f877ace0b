#include "numa/worker_pool.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <latch>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <tbb/task_group.h>

#include "runtime/base/error.h"

namespace tandem::numa {
namespace {

Topology nodes_of_four_cores(int num_nodes) {
  return Topology::synthetic("node:" + std::to_string(num_nodes) + " core:4 pu:1");
}

/// Ways to spread tasks over nodes: evenly, all on the first, all on the last, and skewed.
std::vector<std::vector<int>> spreads(int num_nodes, int num_tasks) {
  std::vector<std::vector<int>> all(4, std::vector<int>(static_cast<std::size_t>(num_tasks)));
  for (std::size_t i = 0; i < static_cast<std::size_t>(num_tasks); ++i) {
    all[0][i] = static_cast<int>(i) % num_nodes;
    all[2][i] = num_nodes - 1;
    all[3][i] = i % 5 == 0 ? 0 : num_nodes - 1;
  }
  return all;
}

class WorkerPoolOf : public testing::TestWithParam<std::tuple<int /*nodes*/, int /*workers*/>> {
 protected:
  const int num_nodes_ = std::get<0>(GetParam());
  WorkerPool pool_{nodes_of_four_cores(num_nodes_), std::get<1>(GetParam())};

  [[nodiscard]] std::vector<int> workers() const {
    std::vector<int> workers(static_cast<std::size_t>(num_nodes_));
    for (int n = 0; n < num_nodes_; ++n) workers[static_cast<std::size_t>(n)] = pool_.workers_on(n);
    return workers;
  }
};

TEST_P(WorkerPoolOf, DealsItsWorkersToNodes) {
  const auto dealt = workers();
  const auto [least, most] = std::minmax_element(dealt.begin(), dealt.end());
  EXPECT_EQ(std::accumulate(dealt.begin(), dealt.end(), 0), pool_.num_workers());
  EXPECT_LE(*most - *least, 1) << "nodes with equal cores";
  EXPECT_TRUE(std::is_sorted(dealt.rbegin(), dealt.rend())) << "the first nodes come first";
  EXPECT_EQ(pool_.num_nodes(), num_nodes_);
}

TEST_P(WorkerPoolOf, RunsEveryTaskOnce) {
  for (const int num_tasks : {0, 1, 2, 3, 7, 8, 9, 64, 257}) {
    for (const auto& node_of : spreads(num_nodes_, num_tasks)) {
      std::vector<int> calls(node_of.size());  // not atomic: the pool orders a task's writes before run() returns
      pool_.run(node_of, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      EXPECT_EQ(calls, std::vector<int>(node_of.size(), 1)) << num_tasks << " tasks";
    }
  }
}

TEST_P(WorkerPoolOf, RunsEveryTaskOnceAndRethrowsWhenTasksThrow) {
  for (const int num_tasks : {1, 2, 5, 40}) {
    for (const auto& node_of : spreads(num_nodes_, num_tasks)) {
      std::vector<int> calls(node_of.size());
      const auto task = [&](std::int64_t i) {
        ++calls[static_cast<std::size_t>(i)];
        if (i % 3 == 0) throw std::runtime_error("task " + std::to_string(i % 3));
      };
      EXPECT_THAT([&] { pool_.run(node_of, task); }, testing::ThrowsMessage<std::runtime_error>("task 0"));
      EXPECT_EQ(calls, std::vector<int>(node_of.size(), 1));
    }
  }
  int calls = 0;
  pool_.run({0}, [&](std::int64_t) { ++calls; });
  EXPECT_EQ(calls, 1) << "the pool goes on after an exception";
}

TEST_P(WorkerPoolOf, TasksOfANodeRunOnAllItsWorkersAtOnce) {
  for (int node = 0; node < num_nodes_; ++node) {
    const int together = std::max(1, pool_.workers_on(node));
    std::latch all_here(together);  // never opens unless that many threads are in tasks at the same time
    std::vector<std::thread::id> threads(static_cast<std::size_t>(together));
    pool_.run(std::vector<int>(threads.size(), node), [&](std::int64_t i) {
      threads[static_cast<std::size_t>(i)] = std::this_thread::get_id();
      all_here.arrive_and_wait();
    });
    EXPECT_EQ(std::set(threads.begin(), threads.end()).size(), threads.size());
  }
}

TEST_P(WorkerPoolOf, AllNodesWorkAtOnce) {
  std::vector<int> node_of;
  for (int node = 0; node < num_nodes_; ++node)
    node_of.insert(node_of.end(), static_cast<std::size_t>(pool_.workers_on(node)), node);
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::latch all_here(static_cast<std::ptrdiff_t>(node_of.size()));
    pool_.run(node_of, [&](std::int64_t) { all_here.arrive_and_wait(); });
  }
}

TEST_P(WorkerPoolOf, RunsEveryPartOnce) {
  for (const int num_parts : {0, 1, 2, 9, 100}) {
    std::vector<int> calls(static_cast<std::size_t>(num_parts));
    pool_.split(num_nodes_ - 1, num_parts, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
    EXPECT_EQ(calls, std::vector<int>(calls.size(), 1)) << "outside of a task";
    pool_.run({0, num_nodes_ - 1}, [&](std::int64_t task) {
      if (task == 1)
        pool_.split(num_nodes_ - 1, num_parts, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
    });
    EXPECT_EQ(calls, std::vector<int>(calls.size(), 2)) << "in a task";
  }
}

TEST_P(WorkerPoolOf, IdleWorkersOfTheNodeShareTheParts) {
  for (int node = 0; node < num_nodes_; ++node) {
    const int together = std::max(1, pool_.workers_on(node));
    std::latch all_here(together);  // never opens unless that many threads are in parts at the same time
    pool_.run({node},
              [&](std::int64_t) { pool_.split(node, together, [&](std::int64_t) { all_here.arrive_and_wait(); }); });
  }
}

TEST_P(WorkerPoolOf, AThreadThatWaitsForPartsBeginsNoOtherTask) {
  static thread_local int depth = 0;
  std::atomic<int> deepest{0};
  std::vector<int> parts(64 * 8);
  std::vector<int> node_of(64);
  for (std::size_t i = 0; i < node_of.size(); ++i) node_of[i] = static_cast<int>(i) % num_nodes_;
  pool_.run(node_of, [&](std::int64_t task) {
    ++depth;
    int seen = deepest.load();
    while (seen < depth && !deepest.compare_exchange_weak(seen, depth)) {
    }
    pool_.split(node_of[static_cast<std::size_t>(task)], 8,
                [&](std::int64_t i) { ++parts[static_cast<std::size_t>(task * 8 + i)]; });
    --depth;
  });
  EXPECT_EQ(deepest.load(), 1);
  EXPECT_EQ(parts, std::vector<int>(parts.size(), 1));
}

TEST_P(WorkerPoolOf, RethrowsWhatAPartThrows) {
  std::atomic<int> calls{0};
  const auto part = [&](std::int64_t i) {
    ++calls;
    if (i == 3) throw std::runtime_error("part 3");
  };
  const auto task = [&](std::int64_t) { pool_.split(0, 6, part); };
  EXPECT_THAT([&] { pool_.run({0}, task); }, testing::ThrowsMessage<std::runtime_error>("part 3"));
  EXPECT_EQ(calls.load(), 6) << "the other parts have run";
}

TEST_P(WorkerPoolOf, ServesSeveralCallersAtOnce) {
  constexpr int kCallers = 4;
  const auto all = spreads(num_nodes_, 23);
  const auto call = [&](int caller) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      const auto& node_of = all[static_cast<std::size_t>((caller + repeat) % 4)];
      std::vector<int> calls(node_of.size());
      pool_.run(node_of, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      ASSERT_EQ(calls, std::vector<int>(node_of.size(), 1));
    }
  };
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) callers.emplace_back(call, c);
  for (auto& caller : callers) caller.join();
}

// Results must not depend on which thread runs a task.
TEST_P(WorkerPoolOf, TasksSeeTheCallersRoundingMode) {
  const std::vector<int> node_of = spreads(num_nodes_, 64)[0];
  for (const int mode : {FE_UPWARD, FE_TOWARDZERO, FE_TONEAREST}) {
    std::fesetround(mode);
    std::vector<int> seen(node_of.size());
    pool_.run(node_of, [&](std::int64_t i) { seen[static_cast<std::size_t>(i)] = std::fegetround(); });
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(seen, std::vector<int>(node_of.size(), mode));
  }
}

// 5 and 7 do not divide among the nodes, 2 and 3 leave nodes without workers, 33 is more than there are cores.
INSTANTIATE_TEST_SUITE_P(NodesAndWorkers, WorkerPoolOf,
                         testing::Combine(testing::Values(1, 2, 4), testing::Values(1, 2, 3, 4, 5, 7, 8, 16, 33)));

TEST(WorkerPool, TakesOneWorkerPerUsableCoreByDefault) {
  EXPECT_EQ(WorkerPool(nodes_of_four_cores(2), 0).num_workers(), 8);
  const Topology here = Topology::detect();
  EXPECT_EQ(WorkerPool(here, 0).num_workers(), std::min(here.num_cores(), here.cpu_quota()));
}

TEST(WorkerPool, RefusesNumbersOutOfRange) {
  for (const int num_workers : {-1, 1025}) {
    EXPECT_THAT([&] { WorkerPool(nodes_of_four_cores(1), num_workers); },
                testing::ThrowsMessage<Error>(testing::AllOf(testing::HasSubstr("num_workers"),
                                                             testing::HasSubstr(std::to_string(num_workers)))));
  }
}

TEST(WorkerPool, LargestNumberOfWorkersRuns) {
  WorkerPool pool(nodes_of_four_cores(4), 1024);
  std::vector<int> calls(5000);
  std::vector<int> node_of(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) node_of[i] = static_cast<int>(i % 4);
  pool.run(node_of, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
  EXPECT_EQ(calls, std::vector<int>(calls.size(), 1));
}

TEST(WorkerPool, OneWorkerRunsInOrderOnTheCallingThread) {
  WorkerPool pool(nodes_of_four_cores(2), 1);
  const auto caller = std::this_thread::get_id();
  std::vector<std::int64_t> order;
  pool.run({1, 0, 1, 0}, [&](std::int64_t i) {
    order.push_back(i);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
  EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 3}));
}

// oneTBB takes the least of all thread limits: the small pool must not starve the large one, in either order of ends.
TEST(WorkerPool, PoolsDoNotLimitEachOther) {
  const auto meet = [](WorkerPool& pool) {
    std::latch all_here(pool.num_workers());
    pool.run(std::vector<int>(static_cast<std::size_t>(pool.num_workers()), 0),
             [&](std::int64_t) { all_here.arrive_and_wait(); });
  };
  auto small = std::make_unique<WorkerPool>(nodes_of_four_cores(1), 2);
  WorkerPool large(nodes_of_four_cores(1), 12);
  meet(*small);
  meet(large);
  std::thread other([&] { meet(*small); });
  meet(large);
  other.join();
  small.reset();
  meet(large);
}

// A caller may itself be a oneTBB task whose group is cancelled; its tasks must run all the same.
TEST(WorkerPool, RunsInsideACancelledGroup) {
  WorkerPool pool(nodes_of_four_cores(2), 4);
  std::atomic<int> calls{0};
  tbb::task_group group;
  group.run_and_wait([&] {
    group.cancel();
    pool.run(spreads(2, 50)[0], [&](std::int64_t) { ++calls; });
  });
  EXPECT_EQ(calls, 50);
}

std::vector<int> affinity_of_this_thread() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

bool pinning_is_allowed() {
  bool allowed = false;
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(affinity_of_this_thread().front(), &one);
    allowed = sched_setaffinity(0, sizeof one, &one) == 0;
  }).join();
  return allowed;
}

TEST(WorkerPoolOnThisMachine, PinsWorkersAndLeavesTheCallerAlone) {
  const Topology topology = Topology::detect();
  if (!topology.is_this_machine() || !pinning_is_allowed()) GTEST_SKIP() << "pinning is refused here";
  const auto before = affinity_of_this_thread();
  const auto caller = std::this_thread::get_id();
  WorkerPool pool(topology, 2 * topology.num_cores());
  std::vector<int> node_of;
  for (int node = 0; node < pool.num_nodes(); ++node)
    node_of.insert(node_of.end(), static_cast<std::size_t>(pool.workers_on(node)), node);
  for (int repeat = 0; repeat < 10; ++repeat) {
    std::latch all_here(static_cast<std::ptrdiff_t>(node_of.size()));
    pool.run(node_of, [&](std::int64_t i) {
      const auto affinity = affinity_of_this_thread();
      if (std::this_thread::get_id() == caller) {
        EXPECT_EQ(affinity, before);
      } else {
        EXPECT_THAT(topology.nodes()[static_cast<std::size_t>(node_of[static_cast<std::size_t>(i)])].cpus,
                    testing::UnorderedElementsAreArray(affinity));
      }
      all_here.arrive_and_wait();
    });
    EXPECT_EQ(affinity_of_this_thread(), before);
  }
}

TEST(WorkerPoolOnThisMachine, WorkersGetTheirAffinityBack) {
  constexpr int kThreads = 6;
  const auto before = affinity_of_this_thread();
  // oneTBB's worker threads serve every arena of the process: this pool, which pins nothing, sees how the other one's
  // workers come back.
  WorkerPool unpinned(nodes_of_four_cores(1), kThreads);
  for (int repeat = 0; repeat < 10; ++repeat) {
    WorkerPool(Topology::detect(), kThreads).run(std::vector<int>(4 * kThreads, 0), [](std::int64_t) {});
    std::latch all_here(kThreads);
    unpinned.run(std::vector<int>(kThreads, 0), [&](std::int64_t) {
      EXPECT_EQ(affinity_of_this_thread(), before);
      all_here.arrive_and_wait();
    });
  }
}

TEST(WorkerPoolOnThisMachine, ServesSeveralCallersWhilePoolsComeAndGo) {
  const Topology topology = Topology::detect();
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&topology, c] {
      for (int repeat = 0; repeat < 10; ++repeat) {
        WorkerPool pool(topology, 1 + c);
        std::vector<int> calls(31);
        pool.run(std::vector<int>(calls.size(), repeat % pool.num_nodes()),
                 [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
        EXPECT_EQ(calls, std::vector<int>(calls.size(), 1));
      }
    });
  }
  for (auto& caller : callers) caller.join();
}

}  // namespace
}  // namespace tandem::numa
