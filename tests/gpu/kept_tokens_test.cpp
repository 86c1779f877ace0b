#include "gpu/window_policy/kept_tokens.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "gpu/window_policy/window_policy.h"
#include "tests/support/error_message.h"
#include "tests/support/scored_window.h"

namespace tandem::gpu {
namespace {

using testing::error_message;
using testing::RandomLogits;
using testing::ScoredWindow;

constexpr std::int64_t kSinks = 4;

ScoredWindow make(std::int64_t recent = 24, std::int64_t step = 8) {
  return {kept_tokens(HeavyHitters{12}, kSinks, static_cast<std::int32_t>(recent + step)), RandomLogits{5, 2}, recent,
          step};
}

TEST(KeptTokens, AForkGoesItsOwnWay) {
  ScoredWindow source = make();
  for (int t = 0; t < 100; ++t) source.decode();
  ScoredWindow fork = source;
  const auto positions = source.positions();
  const auto scores = source.scores();
  const auto* slots = fork.state().slots().data();
  const auto* promotions = fork.state().promote(0).data();
  for (int t = 0; t < 70; ++t) fork.decode();
  EXPECT_EQ(fork.state().slots().data(), slots);  // a copy has its memory from the start, too
  EXPECT_EQ(fork.state().promote(0).data(), promotions);
  EXPECT_EQ(source.positions(), positions);
  EXPECT_EQ(source.scores(), scores);
  for (int t = 0; t < 70; ++t) source.decode();
  EXPECT_EQ(source.positions(), fork.positions());
  EXPECT_EQ(source.scores(), fork.scores());
}

TEST(KeptTokens, TruncatesAtEveryLengthAndGoesOn) {
  ScoredWindow source = make();
  for (int t = 0; t < 150; ++t) source.decode();
  for (std::int64_t length = 0; length <= source.state().length() + 1; ++length) {
    ScoredWindow window = source;
    window.state().truncate(length, window.state().recent_begin());
    const auto expected = [&] {
      auto positions = source.positions();
      std::erase_if(positions, [&](std::int64_t p) { return p >= length; });
      return positions;
    }();
    ASSERT_EQ(window.positions(), expected) << length;
    ASSERT_EQ(window.state().length(), std::clamp(length, kSinks, source.state().length()));
    for (int t = 0; t < 60; ++t) window.decode();
    std::set<std::int32_t> slots(window.state().slots().begin(), window.state().slots().end());
    ASSERT_EQ(slots.size(), window.state().slots().size()) << length;
    const auto positions = window.positions();
    ASSERT_TRUE(std::is_sorted(positions.begin(), positions.end()));
    ASSERT_EQ(positions.size(), static_cast<std::size_t>(window.state().length() - window.state().recent_begin()) +
                                    window.state().slots().size());
  }
}

TEST(KeptTokens, ACutThatMakesTokensRecentAgainKeepsTheSameOnes) {
  KeptTokens state = kept_tokens(HeavyHitters{4}, 0, 8);
  state.append(8);
  state.accumulate({std::vector<float>(4), std::vector<float>{8, 1, 7, 2, 6, 3, 5, 4}});
  state.promote(4);
  state.promote(4);
  state.append(2);
  const auto kept = [](const KeptTokens& of) {
    std::vector<std::int64_t> positions;
    for (const std::int32_t slot : of.slots()) positions.push_back(of.position(slot));
    return positions;
  };
  using Positions = std::vector<std::int64_t>;
  ASSERT_EQ(kept(state), (Positions{0, 2, 4, 6}));

  KeptTokens cut_late = state;
  cut_late.truncate(9, 4);
  EXPECT_EQ(kept(cut_late), (Positions{0, 2}));
  EXPECT_EQ(cut_late.recent_score(4), 6.f);
  EXPECT_EQ(cut_late.recent_score(5), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(cut_late.recent_score(8), 0.f);
  cut_late.promote(4);
  EXPECT_EQ(kept(cut_late), (Positions{0, 2, 4, 6}));

  KeptTokens cut_early = state;
  cut_early.truncate(6, 4);
  EXPECT_EQ(cut_early.length(), 6);
  for (std::int32_t slot = 0; slot < 4; ++slot) {
    EXPECT_EQ(cut_early.position(slot) >= 0, std::ranges::count(cut_early.slots(), slot) == 1) << slot;
  }
  EXPECT_EQ(cut_early.promote(2)[0].replaced, -1);
  EXPECT_EQ(kept(cut_early), (Positions{0, 2, 4}));  // 5 had left: it is not kept, although a slot is free
}

TEST(KeptTokens, BadInputChangesNothing) {
  ScoredWindow window = make();
  for (int t = 0; t < 90; ++t) window.decode();
  KeptTokens& state = window.state();
  const auto positions = window.positions();
  const auto scores = window.scores();
  const auto recents = static_cast<std::size_t>(state.length() - state.recent_begin());
  const std::vector<float> kept(12, 0.1f), recent(recents, 0.1f);
  const auto with = [](std::vector<float> values, float last) {
    values.back() = last;
    return values;
  };
  EXPECT_EQ(error_message([&] {
              state.accumulate({std::span(kept).first(11), recent});
            }),
            "mass.kept has 11 values; needed: one for each of 12 slots");
  EXPECT_EQ(error_message([&] {
              state.accumulate({kept, {}});
            }),
            concat("mass.recent has 0 values; needed: one for each of ", recents, " recent tokens"));
  EXPECT_EQ(error_message([&] {
              state.accumulate({kept, with(recent, -1.f)});
            }),
            concat("mass.recent[", recents - 1, "] is -1; allowed: finite values from 0"));
  EXPECT_NE(error_message([&] { state.accumulate({with(kept, std::nanf("")), recent}); }), "accepted");
  EXPECT_NE(error_message([&] {
              state.accumulate({kept, with(recent, std::numeric_limits<float>::infinity())});
            }),
            "accepted");
  EXPECT_EQ(error_message([&] { state.promote(static_cast<std::int64_t>(recents) + 1); }),
            concat("count is ", recents + 1, "; allowed: 0 to ", recents, ", the tokens that are recent"));
  EXPECT_NE(error_message([&] { state.promote(-1); }), "accepted");
  EXPECT_EQ(error_message([&] { state.append(33 - static_cast<std::int64_t>(recents)); }),
            concat("count is ", 33 - recents, ", and ", recents, " tokens are recent; allowed together: 32"));
  EXPECT_NE(error_message([&] { state.append(-1); }), "accepted");
  EXPECT_EQ(error_message([&] { state.append(std::vector{1.f}); }),
            "scores of 1 tokens were given; this policy's source of scores is attention");
  EXPECT_NE(error_message([&] { state.truncate(state.length(), kSinks); }).find("tokens recent; allowed: 32"),
            std::string::npos);
  EXPECT_EQ(window.positions(), positions);
  EXPECT_EQ(window.scores(), scores);
}

TEST(KeptTokens, ExternalScoresMustBeGiven) {
  KeptTokens state = kept_tokens(Threshold{}, 0, 8);
  EXPECT_EQ(error_message([&] { state.append(2); }),
            "scores are missing for 2 tokens; a policy with external scores needs one for each token");
  EXPECT_NE(error_message([&] { state.append(std::vector{1.f, std::nanf("")}); }), "accepted");
  EXPECT_EQ(error_message([&] { state.accumulate({}); }), "mass was given; this policy's source of scores is external");
  EXPECT_EQ(state.length(), 0);
}

TEST(KeptTokens, NeedRoomForARecentToken) {
  EXPECT_EQ(error_message([] { kept_tokens(HeavyHitters{}, 0, 0); }), "max_recent is 0; allowed: from 1");
}

}  // namespace
}  // namespace tandem::gpu
