#include "gpu/window_policy/heavy_hitters.h"

#include <numeric>
#include <set>
#include <tuple>

#include <gtest/gtest.h>

#include "gpu/window_policy/window_policy.h"
#include "tests/support/error_message.h"
#include "tests/support/greedy_window.h"

namespace tandem::gpu {
namespace {

using testing::error_message;
using testing::GreedyWindow;
using testing::RandomLogits;
using testing::ScoredWindow;

constexpr std::int64_t kSinks = 0;
constexpr double kQuantum = 1.0 / 4096;  // sums of 600 queries of 8 heads stay exact in fp32

/// (kept, recents, tokens that leave at a time, group)
class HeavyHittersLaws : public ::testing::TestWithParam<std::tuple<int, int, int, int>> {
 protected:
  [[nodiscard]] int kept() const { return std::get<0>(GetParam()); }
  [[nodiscard]] int recent() const { return std::get<1>(GetParam()); }
  [[nodiscard]] int step() const { return std::get<2>(GetParam()); }
  [[nodiscard]] RandomLogits logits() const { return {static_cast<std::uint64_t>(kept()), std::get<3>(GetParam())}; }
  [[nodiscard]] ScoredWindow window() const {
    return {kept_tokens(HeavyHitters{kept()}, kSinks, recent() + step()), logits(), recent(), step(), kQuantum};
  }
};

INSTANTIATE_TEST_SUITE_P(HeavyHitters, HeavyHittersLaws,
                         ::testing::Values(std::tuple(1, 1, 1, 1), std::tuple(8, 16, 1, 1), std::tuple(7, 5, 1, 4),
                                           std::tuple(32, 32, 8, 2), std::tuple(3, 9, 8, 8), std::tuple(64, 65, 64, 1),
                                           std::tuple(16, 1, 64, 4)),
                         [](const auto& test) {
                           return concat("h", std::get<0>(test.param), "_r", std::get<1>(test.param), "_g",
                                         std::get<2>(test.param), "_q", std::get<3>(test.param));
                         });

TEST_P(HeavyHittersLaws, EqualTheGreedyReference) {
  ScoredWindow window = this->window();
  GreedyWindow greedy{logits(), recent(), step(), kept(), 0, kQuantum};
  for (int t = 0; t < 400; ++t) {
    window.decode();
    greedy.decode();
    ASSERT_EQ(window.positions(), greedy.positions()) << t;
    ASSERT_EQ(window.scores(), greedy.scores()) << t;
  }
  EXPECT_FALSE(greedy.left.empty());
}

TEST_P(HeavyHittersLaws, NothingThatLeftComesBack) {
  ScoredWindow window = this->window();
  std::set<std::int64_t> left, before;
  for (int t = 0; t < 400; ++t) {
    window.decode();
    const auto held = window.positions();
    const std::set<std::int64_t> now(held.begin(), held.end());
    for (const std::int64_t p : before) {
      if (!now.contains(p)) left.insert(p);
    }
    for (const std::int64_t p : left) ASSERT_FALSE(now.contains(p)) << p << " at " << t;
    before = now;
  }
  EXPECT_FALSE(left.empty());
}

TEST_P(HeavyHittersLaws, NothingLeavesAWindowThatIsLargeEnough) {
  ScoredWindow window = this->window();
  const std::int64_t most = kept() + recent();
  for (std::int64_t t = 0; t < most; ++t) {
    window.decode();
    std::vector<std::int64_t> all(static_cast<std::size_t>(t + 1));
    std::iota(all.begin(), all.end(), 0);
    ASSERT_EQ(window.positions(), all);
  }
}

TEST_P(HeavyHittersLaws, ScoresOfAnUndividedWindowAddUpToItsQueries) {
  const int group = std::get<3>(GetParam());
  ScoredWindow window(kept_tokens(HeavyHitters{300}, kSinks, recent() + step()), logits(), recent(), step());
  for (int t = 1; t <= 300; ++t) window.decode();
  const auto scores = window.scores();
  EXPECT_NEAR(std::accumulate(scores.begin(), scores.end(), 0.0), 300.0 * group, 1e-3 * group);
}

TEST_P(HeavyHittersLaws, PromotionsTellWhatHappened) {
  ScoredWindow window = this->window();
  KeptTokens& state = window.state();
  std::vector<std::int64_t> in_slot(static_cast<std::size_t>(kept()), -1);
  for (int t = 0; t < 200; ++t) {
    state.append(1);
    const std::vector<float> masses(static_cast<std::size_t>(kept()), 0.25f);
    const auto recents = static_cast<std::size_t>(state.length() - state.recent_begin());
    std::vector<float> recent_masses(recents, 0.f);
    recent_masses.back() = static_cast<float>((t * 37) % 101);
    state.accumulate({masses, recent_masses});
    if (state.length() - state.recent_begin() < recent() + step()) continue;
    const std::int64_t first = state.recent_begin();
    const auto promotions = state.promote(step());
    ASSERT_EQ(promotions.size(), static_cast<std::size_t>(step()));
    for (std::size_t i = 0; i < promotions.size(); ++i) {
      if (promotions[i].slot < 0) continue;
      auto& slot = in_slot[static_cast<std::size_t>(promotions[i].slot)];
      ASSERT_EQ(promotions[i].replaced, slot);
      slot = first + static_cast<std::int64_t>(i);
    }
    std::int64_t last = -1;
    ASSERT_EQ(std::count_if(in_slot.begin(), in_slot.end(), [](auto p) { return p >= 0; }),
              static_cast<std::ptrdiff_t>(state.slots().size()));
    for (const std::int32_t slot : state.slots()) {
      ASSERT_EQ(state.position(slot), in_slot[static_cast<std::size_t>(slot)]);
      ASSERT_GT(state.position(slot), last);
      last = state.position(slot);
    }
  }
}

/// Two kept, tokens leave three at a time; scores of the three in every order of {1, 1, 2}, and all alike.
TEST(HeavyHitters, OfEqualScoresTheLowestPositionLeavesFirst) {
  const auto kept_after = [](const std::vector<float>& scores) {
    KeptTokens state = kept_tokens(HeavyHitters{2}, kSinks, 3);
    state.append(3);
    state.accumulate({std::vector<float>(2), scores});
    state.promote(3);
    std::vector<std::int64_t> positions;
    for (const std::int32_t slot : state.slots()) positions.push_back(state.position(slot));
    return positions;
  };
  using Positions = std::vector<std::int64_t>;
  EXPECT_EQ(kept_after({1, 1, 2}), (Positions{1, 2}));
  EXPECT_EQ(kept_after({1, 2, 1}), (Positions{1, 2}));
  EXPECT_EQ(kept_after({2, 1, 1}), (Positions{0, 2}));
  EXPECT_EQ(kept_after({1, 1, 1}), (Positions{1, 2}));
  EXPECT_EQ(kept_after({0, 0, 0}), (Positions{1, 2}));
}

TEST(HeavyHitters, AKeptTokenLosesATieAgainstALaterOne) {
  KeptTokens state = kept_tokens(HeavyHitters{1}, kSinks, 1);
  state.append(1);
  state.accumulate({std::vector<float>(1), std::vector{1.f}});
  EXPECT_EQ(state.promote(1).front(), (Promotion{0, -1}));
  state.append(1);
  state.accumulate({std::vector{1.f}, std::vector{2.f}});
  EXPECT_EQ(state.promote(1).front(), (Promotion{0, 0}));
  EXPECT_EQ(state.position(0), 1);
}

TEST(HeavyHitters, MassOfAGroupIsTheSumOfItsHeads) {
  CounterRandom random(3, 0);
  KeptTokens by_head = kept_tokens(HeavyHitters{4}, kSinks, 8), at_once = by_head;
  for (int t = 0; t < 60; ++t) {
    by_head.append(1);
    at_once.append(1);
    const auto recents = static_cast<std::size_t>(at_once.length() - at_once.recent_begin());
    std::vector<float> kept(4), recent(recents);
    for (int head = 0; head < 8; ++head) {
      std::vector<float> k(4), r(recents);
      for (std::size_t i = 0; i < 4; ++i) kept[i] += k[i] = static_cast<float>(random.below(4096)) * 0x1p-12f;
      for (std::size_t i = 0; i < recents; ++i) recent[i] += r[i] = static_cast<float>(random.below(4096)) * 0x1p-12f;
      by_head.accumulate({k, r});
    }
    at_once.accumulate({kept, recent});
    if (recents == 8) {
      at_once.promote(1);
      by_head.promote(1);
    }
    ASSERT_TRUE(std::ranges::equal(by_head.slots(), at_once.slots()));
    for (const std::int32_t slot : at_once.slots()) {
      ASSERT_EQ(by_head.position(slot), at_once.position(slot));
      ASSERT_EQ(by_head.score(slot), at_once.score(slot));
    }
  }
}

TEST(HeavyHitters, AreValidated) {
  const auto message = [](int kept) { return error_message([&] { validate(WindowPolicy(HeavyHitters{kept})); }); };
  EXPECT_EQ(message(1), "accepted");
  EXPECT_EQ(message(0), "kept_tokens is 0; allowed: 1 to 16777216");
  EXPECT_EQ(message(-3), "kept_tokens is -3; allowed: 1 to 16777216");
  EXPECT_EQ(message((1 << 24) + 1), "kept_tokens is 16777217; allowed: 1 to 16777216");
}

}  // namespace
}  // namespace tandem::gpu
