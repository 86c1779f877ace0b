// Statistical laws of sketch sampling. What a law says to be zero may be off by four standard errors; other bounds are
// what was measured, with a margin.
#include <gtest/gtest.h>

#include "tests/support/moments.h"
#include "tests/support/repetitions.h"
#include "tests/support/sketch_fixture.h"

namespace tandem::lsh {
namespace {

using testing::Moments;
using testing::repetitions;
using testing::SketchFixture;

/// Over seeds at one position, and over positions with one seed: the denominator is right on average.
TEST(SketchLaws, UnbiasedModeHasAnUnbiasedDenominator) {
  constexpr int kSeeds = repetitions(300), kPositions = repetitions(4000);
  SketchFixture fixture(64, 2, 1.5);
  fixture.append(4000);
  fixture.observe(64);
  const auto q = fixture.make_queries();
  const double exact[] = {fixture.exact(q, 0).lse, fixture.exact(q, 1).lse};
  Moments over_seeds[2], over_positions[2];
  const SketchIndex map = fixture.indexed({.bits_per_dim = 1, .unbiased = true});
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const SketchIndex index = fixture.indexed({.bits_per_dim = 1, .unbiased = true, .seed = seed});
    fixture.select(index, q, 4000);
    const auto estimate = fixture.attend(q);
    for (std::size_t h = 0; h < 2; ++h) over_seeds[h].add(std::exp(estimate.lse[h] - exact[h]));
  }
  for (int position = 0; position < kPositions; ++position) {
    fixture.select(map, q, position);
    const auto estimate = fixture.attend(q);
    for (std::size_t h = 0; h < 2; ++h) over_positions[h].add(std::exp(estimate.lse[h] - exact[h]));
  }
  for (std::size_t h = 0; h < 2; ++h) {
    for (const Moments* ratio : {&over_seeds[h], &over_positions[h]}) {
      EXPECT_LT(std::abs(ratio->mean() - 1) / ratio->standard_error(), 4.0) << ratio->mean();
      EXPECT_LT(ratio->standard_error(), 0.02 * std::sqrt(300.0 / kSeeds));
    }
  }
}

/// What a draw states about its square errors minus what they were, over many draws, as a share of what is stated.
///
/// The stated variance of the denominator is that of independent draws. Those of a block are spread out, which only
/// makes it smaller. The stated error of out takes the ratio that it is for linear, and is somewhat small.
TEST(SketchLaws, TheStatedVarianceIsThatOfTheDraws) {
  constexpr int kPositions = repetitions(2000);
  SketchFixture fixture(64, 2, 1.5);
  fixture.append(4000);
  fixture.observe(64);
  const auto q = fixture.make_queries();
  const SketchIndex index = fixture.indexed({.bits_per_dim = 1, .unbiased = true});
  const cpu::reference::Result exact[] = {fixture.exact(q, 0), fixture.exact(q, 1)};
  Moments stated[2], excess[2], stated_error[2], excess_error[2];
  for (int position = 0; position < kPositions; ++position) {
    fixture.select(index, q, position);
    const auto estimate = fixture.attend(q);
    for (std::size_t h = 0; h < 2; ++h) {
      const double z = std::exp(estimate.lse[h] - exact[h].lse);
      stated[h].add(z * z * estimate.weight[h]);
      excess[h].add(z * z * estimate.weight[h] - (z - 1) * (z - 1));
      const float* out = estimate.out.data() + h * 64;
      const double error =
          out_error(estimate.weight[h], estimate.value.data() + h * 64, estimate.square[h], 1.0, out, 64);
      stated_error[h].add(error * error);
      excess_error[h].add(error * error - std::pow(testing::distance(out, exact[h].out), 2));
    }
  }
  for (std::size_t h = 0; h < 2; ++h) {
    const double share = excess[h].mean() / stated[h].mean();
    const double noise = 4 * excess[h].standard_error() / stated[h].mean();
    EXPECT_GT(share, 0.0 - noise);
    EXPECT_LT(share, 0.3 + noise);
    const double error_share = excess_error[h].mean() / stated_error[h].mean();
    const double error_noise = 4 * excess_error[h].standard_error() / stated_error[h].mean();
    EXPECT_LT(noise + error_noise, 0.2 * std::sqrt(2000.0 / kPositions));
    EXPECT_NEAR(error_share, 0.0, 0.15 + error_noise);
  }
}

TEST(SketchLaws, TheBudgetIsKeptAndBudgetsNest) {
  SketchFixture fixture(128, 4, 2.0);
  fixture.append(8000);
  fixture.observe(32);
  for (const bool unbiased : {false, true}) {
    Moments drawn;
    const SketchIndex small = fixture.indexed({.budget = 0.02, .unbiased = unbiased});
    const SketchIndex large = fixture.indexed({.budget = 0.05, .unbiased = unbiased});
    for (int t = 0; t < 100; ++t) {
      const auto q = fixture.make_queries();
      const auto& first = fixture.select(small, q, t);
      std::vector<std::uint32_t> few = first.rows;
      few.insert(few.end(), first.sampled.rows.begin(), first.sampled.rows.end());
      std::sort(few.begin(), few.end());
      drawn.add(static_cast<double>(few.size()));
      const auto& second = fixture.select(large, q, t);
      std::vector<std::uint32_t> many = second.rows;
      many.insert(many.end(), second.sampled.rows.begin(), second.sampled.rows.end());
      std::sort(many.begin(), many.end());
      EXPECT_TRUE(std::includes(many.begin(), many.end(), few.begin(), few.end()));
    }
    EXPECT_NEAR(drawn.mean(), 160, 5);
  }
}

TEST(SketchLaws, MoreRowsAndMoreBitsMeanLessError) {
  SketchFixture fixture(128, 4, 2.0);
  fixture.append(8000);
  fixture.observe(32);
  const auto mean_error = [&](const SketchParams& params) {
    const SketchIndex index = fixture.indexed(params);
    CounterRandom saved = fixture.random;
    Moments error;
    for (int t = 0; t < 12; ++t) {
      const auto q = fixture.make_queries();
      fixture.select(index, q, t);
      const auto estimate = fixture.attend(q);
      for (int h = 0; h < 4; ++h)
        error.add(testing::relative_error(estimate.out.data() + h * 128, fixture.exact(q, h).out));
    }
    fixture.random = saved;
    return error.mean();
  };
  const double base = mean_error({.budget = 0.02, .bits_per_dim = 1});
  EXPECT_LT(mean_error({.budget = 0.08, .bits_per_dim = 1}), 0.75 * base);
  EXPECT_LT(mean_error({.budget = 0.02, .bits_per_dim = 2}), 0.9 * base);
  EXPECT_LT(base, mean_error({.budget = 0.02, .bits_per_dim = 1, .unbiased = true}));
}

TEST(SketchLaws, EveryShapeOfHeadsIsEstimatedWithinItsOwnError) {
  for (const auto& [dim, group] : {std::pair{64, 1}, {80, 8}, {96, 3}, {128, 8}, {256, 1}}) {
    SketchFixture fixture(dim, group, 1.5);
    fixture.append(2500);
    fixture.observe(64);
    const SketchIndex index = fixture.indexed({.budget = 0.1, .bits_per_dim = 2});
    Moments ratio;
    for (int t = 0; t < 6; ++t) {
      const auto q = fixture.make_queries();
      fixture.select(index, q, t);
      const auto estimate = fixture.attend(q);
      for (int h = 0; h < group; ++h) {
        const float* out = estimate.out.data() + h * dim;
        const auto i = static_cast<std::size_t>(h);
        const double stated =
            out_error(estimate.weight[i], estimate.value.data() + h * dim, estimate.square[i], 1.0, out, dim);
        ratio.add(testing::distance(out, fixture.exact(q, h).out) / stated);
      }
    }
    EXPECT_LT(ratio.mean(), 1.3) << dim << ", group of " << group;
    EXPECT_GT(ratio.mean(), 0.3) << dim << ", group of " << group;
  }
}

TEST(SketchLaws, TopKTakesTheLargestSharesAndNothingElse) {
  SketchFixture fixture(128, 2, 3.0);
  fixture.append(5000);
  fixture.observe(64);
  const SketchIndex index = fixture.indexed({.budget = 0.02, .bits_per_dim = 2, .top_k = true});
  const auto q = fixture.make_queries();
  const auto& selection = fixture.select(index, q, 1);
  EXPECT_TRUE(selection.sampled.rows.empty());
  EXPECT_EQ(selection.rows.size(), 100u);
  EXPECT_TRUE(std::is_sorted(selection.rows.begin(), selection.rows.end()));
  const auto again = selection.rows;
  EXPECT_EQ(fixture.select(index, q, 2).rows, again);  // no random numbers
  // Most of what the best rows hold is found.
  const auto estimate = fixture.attend(q);
  for (int h = 0; h < 2; ++h) EXPECT_GT(estimate.lse[static_cast<std::size_t>(h)], fixture.exact(q, h).lse - 1.0);
}

}  // namespace
}  // namespace tandem::lsh
