// The split between dense attention and selecting, corrected while running: figures go in as values wherever one
// decides, and runtimes get profiles so absurd that no machine makes them right.
#include <atomic>
#include <cmath>
#include <limits>
#include <optional>
#include <thread>
#include <tuple>

#include <gtest/gtest.h>

#include "runtime/base/random.h"
#include "runtime/exact_queries.h"
#include "runtime/split.h"
#include "tests/support/store_fixture.h"

namespace tandem::testing {
namespace {

using Way = Split::Way;

constexpr std::int64_t kMost = std::int64_t{1} << 24;
const lsh::SelectorParams kSketch = lsh::SketchParams{.budget = 0.02};

AttentionShape shape() { return resolved({1, 4, 1, 128, 128, 0.f, 0.f}); }

lsh::SelectionCost cost_of(const lsh::CostProfile& profile) {
  return {profile, kSketch, cpu::RowLayout::of(shape(), DType::bf16), shape().group_size()};
}

lsh::CostProfile with_dense_row(double factor) {
  lsh::CostProfile profile;
  profile.dense_row_ns *= factor;
  return profile;
}

/// A query that sees `rows` rows on a machine of which `truth` is the profile, predicted by `believed`.
SplitMeasurement measurement(Way way, std::int64_t rows, const lsh::SelectionCost& truth,
                             const lsh::SelectionCost& believed) {
  const auto visible = static_cast<double>(rows);
  if (way == Way::dense) return {truth.dense_ns(visible), believed.dense_ns(visible), rows};
  return {truth.select_ns(visible), believed.select_ns(visible), rows};
}

void add_ratio(Split& split, Way way, double ratio) { split.add(way, {1000 * ratio, 1000, 100}); }

/// By how much the profile is wrong, and which way is measured last.
class WrongProfile : public ::testing::TestWithParam<std::tuple<double, Way>> {};
INSTANTIATE_TEST_SUITE_P(Factors, WrongProfile,
                         ::testing::Combine(::testing::Values(5.0, 0.2, 1000.0, 1e-3),
                                            ::testing::Values(Way::dense, Way::selecting)));

TEST_P(WrongProfile, IsCorrectedOnceBothWaysHaveBeenMeasuredOftenEnough) {
  const auto [factor, last] = GetParam();
  const Way first = last == Way::dense ? Way::selecting : Way::dense;
  const lsh::SelectionCost truth = cost_of({});
  const lsh::SelectionCost believed = cost_of(with_dense_row(factor));
  ASSERT_NE(believed.crossover(kMost), truth.crossover(kMost));
  Split split;
  for (int i = 0; i < 100; ++i) split.add(first, measurement(first, 20000 + i, truth, believed));
  for (int i = 1; i < kLeastProbes; ++i) {
    split.add(last, measurement(last, 20000 + i, truth, believed));
    EXPECT_EQ(split.figures().selecting_over_dense(), 1);
    EXPECT_EQ(split.probe_tokens(), kFirstProbeTokens);
  }
  split.add(last, measurement(last, 20000, truth, believed));
  EXPECT_EQ(split.probe_tokens(), kProbeTokens);
  const double quotient = split.figures().selecting_over_dense();
  EXPECT_NEAR(quotient, factor, 1e-9 * factor);
  const double taken = next_quotient(1, quotient, believed, kMost);
  EXPECT_NEAR(static_cast<double>(believed.crossover(kMost, taken)), static_cast<double>(truth.crossover(kMost)), 1);
  EXPECT_EQ((last == Way::dense ? split.figures().dense : split.figures().selecting).steps, kLeastProbes);
  EXPECT_EQ((first == Way::dense ? split.figures().dense : split.figures().selecting).steps, 100);
}

TEST(Split, AMachineThatIsSlowerInEverythingChangesNothing) {
  Split split;
  for (int i = 0; i < kLeastProbes; ++i) {
    add_ratio(split, Way::dense, 5);
    add_ratio(split, Way::selecting, 5);
  }
  EXPECT_EQ(split.figures().selecting_over_dense(), 1);
}

TEST(Split, NoiseOfAFifthChangesNothing) {
  Split split;
  CounterRandom random(11, 0);
  const lsh::SelectionCost cost = cost_of({});
  double taken = 1;
  for (int i = 0; i < 2000; ++i) {
    add_ratio(split, Way::dense, 0.8 + 0.4 * random.uniform());
    add_ratio(split, Way::selecting, 0.8 + 0.4 * random.uniform());
    taken = next_quotient(taken, split.figures().selecting_over_dense(), cost, kMost);
    ASSERT_EQ(taken, 1) << i;
  }
}

TEST(Split, AMinorityOfDisturbedMeasurementsChangesNothing) {
  Split split;
  for (int i = 0; i < kKeptProbes; ++i) {
    add_ratio(split, Way::dense, i % 2 == 1 ? 1e4 : 1);
    add_ratio(split, Way::selecting, 1);
  }
  EXPECT_EQ(split.figures().selecting_over_dense(), 1);
}

TEST(Split, FollowsAChangeOnceTheMajorityIsNew) {
  Split split;
  for (int i = 0; i < 1000; ++i) {
    add_ratio(split, Way::dense, 1);
    add_ratio(split, Way::selecting, 1);
  }
  for (int i = 1; i <= kKeptProbes; ++i) {
    add_ratio(split, Way::selecting, 3);
    EXPECT_EQ(split.figures().selecting_over_dense(), 2 * i > kKeptProbes ? 3 : 1) << i;
  }
}

TEST(Split, IgnoresWhatIsNoMeasurement) {
  Split split;
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const SplitMeasurement& none :
       {SplitMeasurement{}, SplitMeasurement{0, 1, 1}, SplitMeasurement{1, 0, 1}, SplitMeasurement{-1, 1, 1},
        SplitMeasurement{kNaN, 1, 1}, SplitMeasurement{1, kNaN, 1}, SplitMeasurement{kInfinity, 1, 1}}) {
    for (const Way way : {Way::dense, Way::selecting}) split.add(way, none);
  }
  EXPECT_EQ(split.figures().dense.steps, 0);
  EXPECT_EQ(split.figures().selecting.steps, 0);
}

TEST(Split, TheQuotientIsBounded) {
  Split split;
  for (int i = 0; i < kLeastProbes; ++i) {
    add_ratio(split, Way::dense, 1e-9);
    add_ratio(split, Way::selecting, 1e9);
  }
  EXPECT_EQ(split.figures().selecting_over_dense(), 1e6);
}

TEST(Split, TakesMeasurementsOfManyThreads) {
  Split split;
  std::atomic<bool> wrong = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        add_ratio(split, Way::dense, 2);
        add_ratio(split, Way::selecting, 6);
        const double quotient = split.figures().selecting_over_dense();
        if (quotient != 1 && std::abs(quotient - 3) > 1e-12) wrong = true;
        if (quotient != 1 && split.probe_tokens() != kProbeTokens) wrong = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(wrong);
  EXPECT_EQ(split.figures().dense.steps, 2000);
  EXPECT_EQ(split.figures().selecting.steps, 2000);
}

TEST(NextQuotient, ChangesByMoreThanAQuarterOnlyAndWhereItDecidesOtherwise) {
  const lsh::SelectionCost cost = cost_of({});
  for (const double taken : {1.0, 0.5, 3.0}) {
    for (const double factor : {1.0, 1.2, 1 / 1.2, 1.24}) {
      EXPECT_EQ(next_quotient(taken, factor * taken, cost, kMost), taken) << taken << " * " << factor;
    }
    for (const double factor : {1.26, 1 / 1.26, 4.0}) {
      EXPECT_EQ(next_quotient(taken, factor * taken, cost, kMost), factor * taken) << taken << " * " << factor;
    }
  }
  // Nobody has as many rows: it never pays, whatever the quotient.
  const std::int64_t most = cost.crossover(kMost) / 4;
  EXPECT_EQ(next_quotient(1, 2, cost, most), 1);
  EXPECT_EQ(next_quotient(1, 0.1, cost, most), 0.1);
}

TEST(TakenSplit, ACutLayerTakesOverAgainAtTheNextMultiple) {
  const TakenSplit taken{3, 5};
  EXPECT_EQ(taken.cut(100 * kSplitTokens).block, 5);
  EXPECT_EQ(taken.cut(5 * kSplitTokens + 1).block, 5);
  EXPECT_EQ(taken.cut(5 * kSplitTokens).block, 4);
  EXPECT_EQ(taken.cut(1).block, 0);
  EXPECT_EQ(taken.cut(0).block, -1);
  EXPECT_EQ(taken.cut(0).selecting_over_dense, 3);
}

/// ExactQueries of a layer of many cheap rows.
class Decisions : public ::testing::Test {
 protected:
  static constexpr std::int64_t kLength = 6000;
  static constexpr std::int32_t kLayers = 3;

  Decisions() : rows_(resolved({kLayers, 4, 1, 16, 16, 0.f, 0.f}), DType::f32) {
    const std::vector<float> zeros(static_cast<std::size_t>(kLength * 16));
    rows_.append(zeros, zeros);
    config_.shape = resolved({kLayers, 4, 1, 16, 16, 0.f, 0.f});
    config_.selector = lsh::TopKParams{0.1};
    config_.auto_split = true;
    config_.profile.gathered_row_ns = config_.profile.scored_row_ns = 0.001;
    // Selecting pays from 1500 rows on, with a quotient of 2 from 3000 on.
    config_.profile.dense_row_ns = 16;
    config_.profile.selection_ns = 0.9 * cost().dense_ns(1500);
  }

  [[nodiscard]] lsh::SelectionCost cost() const {
    return {config_.profile, config_.selector, rows_.layout, config_.shape.group_size()};
  }
  void measure(double quotient, int count = kKeptProbes) {
    for (int i = 0; i < count; ++i) {
      add_ratio(split_, Way::dense, 1);
      add_ratio(split_, Way::selecting, quotient);
    }
  }
  [[nodiscard]] ExactQueries queries(const TakenSplit& taken) const {
    AttendRequest request;
    request.layer = layer_;
    request.use_host = use_host_;
    request.exact = exact_;
    request.sliding_window = sliding_window_;
    return {request, selector_, {rows_.store, 0, kLength, taken}, config_, split_};
  }
  /// Positions at which a query is dense and the one before is not, or the reverse, apart from probes.
  [[nodiscard]] static std::vector<std::int64_t> changes(const ExactQueries& queries) {
    std::vector<std::int64_t> changes;
    std::optional<bool> before;
    for (std::int64_t p = 0; p < kLength; ++p) {
      if (queries.is_probe(p)) continue;
      const bool exact = queries.at(p);
      if (before && exact != *before) changes.push_back(p);
      before = exact;
    }
    return changes;
  }

  StoreFixture rows_;
  Config config_;
  lsh::Selector selector_{lsh::TopKParams{0.1}, 16};
  Split split_;
  std::int32_t layer_ = 0;
  bool use_host_ = true, exact_ = false;
  std::int64_t sliding_window_ = 0;
};

TEST_F(Decisions, AreThoseOfTheProfileUntilBothWaysAreKnown) {
  const std::int64_t first = cost().crossover(kMost);
  ASSERT_NEAR(static_cast<double>(first), 1500, 20);
  measure(2, kLeastProbes - 1);
  const ExactQueries now = queries({});
  EXPECT_EQ(changes(now), std::vector<std::int64_t>{first - 1});  // which sees `first` rows, its own included
  EXPECT_EQ(now.next().selecting_over_dense, 1);
  EXPECT_EQ(now.next().block, (kLength - 1) / kSplitTokens);
}

TEST_F(Decisions, ChangeAtMultiplesOnly) {
  measure(2);
  const std::int64_t first = cost().crossover(kMost);
  const std::int64_t later = cost().crossover(kMost, 2);
  ASSERT_NEAR(static_cast<double>(later), 3000, 30);
  // Block 1 is decided by the profile, those after it by what was measured.
  const ExactQueries now = queries({1, 1});
  EXPECT_EQ(changes(now), (std::vector<std::int64_t>{first - 1, 2 * kSplitTokens, later - 1}));
  EXPECT_EQ(now.next().selecting_over_dense, 2);
  // A layer that has come as far stays with what it has.
  const TakenSplit taken{1, (kLength - 1) / kSplitTokens};
  EXPECT_EQ(changes(queries(taken)), std::vector<std::int64_t>{first - 1});
  EXPECT_EQ(queries(taken).next().selecting_over_dense, 1);
  EXPECT_EQ(queries(taken).next().block, taken.block);
}

TEST_F(Decisions, OneLayerAtATimeIsProbedTheOtherWay) {
  measure(1);
  for (layer_ = 0; layer_ < kLayers; ++layer_) {
    const ExactQueries now = queries({});
    std::vector<std::int64_t> probes;
    for (std::int64_t p = 0; p < kLength; ++p) {
      const bool probe = now.is_probe(p);
      if (probe) probes.push_back(p);
      EXPECT_EQ(now.at(p), cost().pays(p + 1) == probe) << p;
      EXPECT_EQ(now.is_measured(p), probe || now.is_probe(p + 1)) << p;
      if (now.is_measured(p)) {
        EXPECT_EQ(now.run_from(p, 16), 1);
      }
    }
    const std::vector<std::int64_t> expected[kLayers] = {{3072}, {1024, 4096}, {2048, 5120}};
    EXPECT_EQ(probes, expected[layer_]);
  }
}

TEST_F(Decisions, AProbeIsAloneEvenWhereTheNextQueryRunsAsItDoes) {
  measure(1);
  constexpr std::int64_t kProbe = 3 * kProbeTokens;
  for (double rows = kProbe - 50; cost().crossover(kMost) < kProbe + 2; rows += 0.25)
    config_.profile.selection_ns = 0.9 * cost().dense_ns(rows);
  ASSERT_EQ(cost().crossover(kMost), kProbe + 2);  // what the query after the probe sees
  const ExactQueries now = queries({});
  ASSERT_TRUE(now.is_probe(kProbe));
  ASSERT_EQ(now.at(kProbe), now.at(kProbe + 1));
  EXPECT_EQ(now.run_from(kProbe, 16), 1);
  EXPECT_EQ(now.run_from(kProbe + 1, 16), 16);
}

TEST_F(Decisions, ProbesAreFrequentUntilEnoughIsKnown) {
  layer_ = 1;
  const ExactQueries now = queries({});
  std::int64_t probes = 0;
  for (std::int64_t p = 0; p < kLength; ++p) {
    if (!now.is_probe(p)) continue;
    EXPECT_GE(p + 1, kLeastMeasuredRows);
    EXPECT_EQ(p % (kLayers * kFirstProbeTokens), kFirstProbeTokens);
    ++probes;
  }
  EXPECT_EQ(probes, 26);
}

TEST_F(Decisions, NothingIsProbedWhereTheSelectorHasNoSay) {
  const auto expect_none = [&](const char* what) {
    const ExactQueries now = queries({});
    for (std::int64_t p = 0; p < kLength; ++p) {
      ASSERT_FALSE(now.is_probe(p)) << what << p;
      ASSERT_FALSE(now.is_measured(p)) << what << p;
    }
    EXPECT_EQ(now.next().block, -1) << what;
  };
  exact_ = true;
  expect_none("exact ");
  exact_ = false;
  use_host_ = false;
  expect_none("the window only ");
  use_host_ = true;
  selector_ = lsh::Selector(lsh::TopKParams{0.2}, 16);
  expect_none("a selector of its own ");
  selector_ = lsh::Selector(lsh::SelectAllParams{}, 16);
  expect_none("all rows ");
  selector_ = lsh::Selector(config_.selector, 16);
  config_.auto_split = false;
  measure(2);
  expect_none("off ");
  EXPECT_EQ(changes(queries({})), std::vector<std::int64_t>{cost().crossover(kMost) - 1});
}

TEST_F(Decisions, ASlidingWindowOfFewRowsIsNotProbed) {
  sliding_window_ = kLeastMeasuredRows - 1;
  const ExactQueries now = queries({});
  for (std::int64_t p = 0; p < kLength; ++p) ASSERT_FALSE(now.is_measured(p)) << p;
}

}  // namespace
}  // namespace tandem::testing
