#include "gpu/window_policy/threshold.h"

#include <limits>
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

constexpr double kQuantum = 1.0 / 4096;

/// (source, threshold, cap, recents, tokens that leave at a time)
class ThresholdLaws : public ::testing::TestWithParam<std::tuple<ScoreSource, float, int, int, int>> {
 protected:
  [[nodiscard]] ScoreSource source() const { return std::get<0>(GetParam()); }
  [[nodiscard]] Threshold policy() const { return {std::get<1>(GetParam()), std::get<2>(GetParam()), source()}; }
  [[nodiscard]] int recent() const { return std::get<3>(GetParam()); }
  [[nodiscard]] int step() const { return std::get<4>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Threshold, ThresholdLaws,
                         ::testing::Values(std::tuple(ScoreSource::external, 0.f, 1000, 1, 1),
                                           std::tuple(ScoreSource::external, 0.5f, 20, 16, 1),
                                           std::tuple(ScoreSource::external, -1.f, 70, kDelayTokens, 64),
                                           std::tuple(ScoreSource::attention, 0.5f, 1000, 16, 1),
                                           std::tuple(ScoreSource::attention, 0.75f, 30, 20, 8),
                                           std::tuple(ScoreSource::attention, 2.f, 10, 64, 64)),
                         [](const auto& test) {
                           return concat(std::get<0>(test.param) == ScoreSource::external ? "external" : "attention",
                                         "_cap", std::get<2>(test.param), "_r", std::get<3>(test.param), "_g",
                                         std::get<4>(test.param));
                         });

TEST_P(ThresholdLaws, EqualTheGreedyReference) {
  const RandomLogits logits{11, 2};
  ScoredWindow window(kept_tokens(policy(), 0, recent() + step()), logits, recent(), step(), kQuantum);
  GreedyWindow greedy{
      logits, recent(), step(), policy().max_kept, policy().threshold, kQuantum, source() == ScoreSource::external};
  for (int t = 0; t < 400; ++t) {
    window.decode();
    greedy.decode();
    ASSERT_EQ(window.positions(), greedy.positions()) << t;
    ASSERT_EQ(window.scores(), greedy.scores()) << t;
  }
  EXPECT_FALSE(greedy.left.empty());
  EXPECT_GT(static_cast<std::int64_t>(greedy.tokens.size()), greedy.num_recent);
}

TEST(Threshold, AnEqualScoreStaysAndHeadsDifferInLength) {
  const KeptTokens empty = kept_tokens(Threshold{1.f, 4}, 0, 4);
  KeptTokens one = empty, three = empty;
  one.append(std::vector{1.f, std::nextafter(1.f, 0.f), -2.f, 0.f});
  one.promote(4);
  three.append(std::vector{1.f, 3.f, 0.5f, 2.f});
  three.promote(4);
  EXPECT_EQ(one.slots().size(), 1u);
  EXPECT_EQ(one.position(one.slots()[0]), 0);
  EXPECT_EQ(three.slots().size(), 3u);
}

TEST(Threshold, AsManyAsThereAreSlotsAllStay) {
  KeptTokens state = kept_tokens(Threshold{-10.f, 4}, 0, 8);
  state.append(std::vector{-1.f, -2.f, -3.f, -4.f, -5.f});
  state.promote(4);
  EXPECT_EQ(state.slots().size(), 4u);
  state.promote(1);
  EXPECT_EQ(state.slots().size(), 4u);
  EXPECT_EQ(state.position(state.slots().back()), 3);
}

TEST(Threshold, AreValidated) {
  const auto message = [](Threshold policy) { return error_message([&] { validate(WindowPolicy(policy)); }); };
  EXPECT_EQ(message({}), "accepted");
  EXPECT_EQ(message({-3.f, 1}), "accepted");
  EXPECT_EQ(message({-3.f, 1, ScoreSource::attention}), "threshold is -3; allowed for scores from attention: from 0");
  EXPECT_EQ(message({std::numeric_limits<float>::infinity(), 1}), "threshold is inf; allowed: finite values");
  EXPECT_NE(message({std::nanf(""), 1}).find("nan; allowed: finite values"), std::string::npos);
  EXPECT_EQ(message({0.f, 0}), "max_kept is 0; allowed: 1 to 16777216");
  EXPECT_EQ(message({0.f, 1, ScoreSource::none}), "scores is none; a threshold needs a source: attention or external");
}

}  // namespace
}  // namespace tandem::gpu
