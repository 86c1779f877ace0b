// What probes do to memory, and that their order is what they say; how fast they are is nothing that a test can know.
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/aligned_vector.h"
#include "tools/probes/arithmetic.h"
#include "tools/probes/chase.h"
#include "tools/probes/gather.h"
#include "tools/probes/memory_reader.h"
#include "tools/probes/scatter.h"
#include "tools/probes/sequential.h"
#include "tools/probes/spread.h"

namespace tandem::probes {
namespace {

constexpr std::int64_t kBytes = 1 << 20;

struct Arrays {
  static constexpr std::size_t kCount = kBytes / sizeof(double);
  cpu::AlignedVector<double> x = cpu::AlignedVector<double>(kCount), y = x, to = x;

  Arrays() {
    std::iota(x.begin(), x.end(), 1.0);
    std::iota(y.begin(), y.end(), 0.5);
  }
  static std::byte* bytes(cpu::AlignedVector<double>& values) { return reinterpret_cast<std::byte*>(values.data()); }
};

TEST(Spread, IsTheMedianAndTheExtremes) {
  EXPECT_EQ(spread_of({}).samples, 0);
  EXPECT_EQ(spread_of({7}).median, 7);
  const Spread odd = spread_of({5, 1, 2}), even = spread_of({4, 1, 3, 2});
  EXPECT_EQ((std::array{odd.low, odd.median, odd.high}), (std::array{1.0, 2.0, 5.0}));
  EXPECT_EQ((std::array{even.low, even.median, even.high}), (std::array{1.0, 2.5, 4.0}));
  EXPECT_EQ(even.samples, 4);
}

TEST(Scatter, HasEveryNumberOnce) {
  for (const std::int64_t most : {1, 2, 3, 4, 64, 1000, 4096, 70000}) {
    const Scatter order(most);
    EXPECT_LE(order.count(), most);
    EXPECT_GT(2 * order.count(), most);
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < order.count(); ++i) seen.insert(order(i));
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), order.count()) << most;
    EXPECT_EQ(*seen.begin(), 0);
    EXPECT_EQ(*seen.rbegin(), order.count() - 1);
    EXPECT_EQ(order(order.count()), order(0));
  }
}

TEST(Scatter, HasNoTwoNeighboursInARow) {
  const Scatter order(1 << 16);
  int near = 0;
  for (std::int64_t i = 0; i < order.count(); ++i) near += std::abs(order(i + 1) - order(i)) <= 64 ? 1 : 0;
  EXPECT_LT(near, order.count() / 100);
}

TEST(Team, EveryMemberWorksOnce) {
  for (const int members : {1, 2, 5}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(members));
    EXPECT_GE(Team(members).run([&](int t) { ++calls[static_cast<std::size_t>(t)]; }), 0);
    for (const auto& count : calls) EXPECT_EQ(count, 1);
  }
}

TEST(Team, SaysWhenTheSystemRefusesToPin) {
  const auto topology = numa::Topology::detect();
  Team pinned(topology, {topology.nodes().front().cpus.front()}), nowhere(topology, {1'000'000});
  (void)pinned.run([](int) {});
  (void)nowhere.run([](int) {});
  EXPECT_FALSE(pinned.refused());
  EXPECT_TRUE(nowhere.refused());
  Team imagined(numa::Topology::synthetic("node:1 core:2 pu:1"), {1'000'000});
  (void)imagined.run([](int) {});
  EXPECT_FALSE(imagined.refused());
}

class Sweeps : public testing::TestWithParam<int /*members*/> {};

TEST_P(Sweeps, CopiesAndTriadsAreThose) {
  using Sweep = double (*)(Team&, const std::byte*, std::byte*, std::int64_t);
  for (const Sweep copy : {Sweep{copy_gb_per_s}, Sweep{plain_copy_gb_per_s}, Sweep{streaming_copy_gb_per_s}}) {
    Arrays arrays;
    Team team(GetParam());
    EXPECT_GT(copy(team, Arrays::bytes(arrays.x), Arrays::bytes(arrays.to), kBytes), 0);
    const std::int64_t whole = kBytes / GetParam() / 4096 * 4096 * GetParam() / 8;
    for (std::int64_t i = 0; i < whole; ++i)
      ASSERT_EQ(arrays.to[static_cast<std::size_t>(i)], arrays.x[static_cast<std::size_t>(i)]) << i;
  }
  using Triad = double (*)(Team&, const std::byte*, const std::byte*, std::byte*, std::int64_t);
  for (const Triad triad : {Triad{triad_gb_per_s}, Triad{streaming_triad_gb_per_s}}) {
    Arrays arrays;
    Team team(GetParam());
    EXPECT_GT(triad(team, Arrays::bytes(arrays.x), Arrays::bytes(arrays.y), Arrays::bytes(arrays.to), kBytes), 0);
    EXPECT_EQ(arrays.to[0], 1 + 3 * 0.5);
    EXPECT_EQ(arrays.to[1000], 1001 + 3 * 1000.5);
  }
}

INSTANTIATE_TEST_SUITE_P(Members, Sweeps, testing::Values(1, 2, 3));

TEST(Sweeps, ReadsGathersAndArithmeticTakeTime) {
  Arrays arrays;
  Team team(2);
  const std::byte* const bytes = Arrays::bytes(arrays.x);
  for (const double figure :
       {read_gb_per_s(team, bytes, kBytes), asking_read_gb_per_s(team, bytes, kBytes),
        interleaved_read_gb_per_s(team, bytes, kBytes), gather_gb_per_s(team, bytes, kBytes, {512, 512, 0, true}),
        gather_gb_per_s(team, bytes, kBytes, {256, 512, 4000, false}), fma_gflop_per_s(team)}) {
    EXPECT_TRUE(std::isfinite(figure));
    EXPECT_GT(figure, 0);
  }
}

TEST(Chase, FollowsOneCycleThroughAllLinks) {
  for (const std::int64_t bytes : {256, 512, 1280, 65536}) {
    cpu::AlignedVector<double> array(static_cast<std::size_t>(bytes / 8), kLinkOrigin);
    auto* const first = reinterpret_cast<std::byte*>(array.data());
    Team team(2);
    link(team, first, bytes);
    std::set<std::uint64_t> seen;
    std::uint64_t at = 0;
    for (std::int64_t i = 0; i < links_in(bytes); ++i) {
      seen.insert(at);
      const double next = array[at / 8];
      ASSERT_TRUE(next >= 1 && next < 2) << next;  // no denormals, which would slow a triad of them down
      at = std::bit_cast<std::uint64_t>(next) & ((std::uint64_t{1} << 52) - 1);
      ASSERT_LT(at, static_cast<std::uint64_t>(bytes));
    }
    EXPECT_EQ(at, 0u);
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), links_in(bytes));
    Team one(1);
    EXPECT_GE(chase_ns(one, first, bytes, 0, links_in(bytes)), 0);
  }
}

TEST(MemoryReader, ReadsEvenWhatIsTooSmallToTell) {
  for (const std::int64_t bytes : {std::int64_t{64} << 10, std::int64_t{8} << 20}) {
    const MemoryReader reader(numa::Topology::detect(), bytes);
    EXPECT_EQ(reader.bytes(), bytes);
    for (const int threads : {1, 3}) {
      EXPECT_GT(reader.read(threads), 0);
      EXPECT_GT(reader.bandwidth(threads), 0);
      EXPECT_GT(reader.scattered_bandwidth(threads), 0);
    }
  }
}

}  // namespace
}  // namespace tandem::probes
