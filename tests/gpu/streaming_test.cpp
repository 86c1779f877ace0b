#include "gpu/window_policy/streaming.h"

#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/reference_attention.h"
#include "cpu/rope.h"
#include "gpu/window_policy/window_policy.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"

namespace tandem::gpu {
namespace {

using cpu::reference::Result;

std::vector<float> rotated(const cpu::RopeParams& rope, std::vector<float> x, std::int64_t positions) {
  cpu::rotate(rope, static_cast<std::int32_t>(x.size()), positions, x.data());
  return x;
}

/// (head_dim, sinks, recents, interleaved)
class StreamingLaws : public ::testing::TestWithParam<std::tuple<int, int, int, bool>> {
 protected:
  StreamingLaws() {
    CounterRandom random(7, static_cast<std::uint64_t>(dim_));
    const auto draw = [&](std::vector<std::vector<float>>& rows) {
      rows.resize(kTokens, std::vector<float>(static_cast<std::size_t>(dim_)));
      for (auto& row : rows) {
        for (float& x : row) x = static_cast<float>(random.normal());
      }
    };
    draw(q_), draw(k_), draw(v_);
  }
  [[nodiscard]] bool held(std::int64_t p, std::int64_t t) const { return p < sinks_ || p > t - recent_; }
  /// What the query at `t` sees, with its logits.
  template <typename Logit>
  [[nodiscard]] Result attend(std::int64_t t, const Logit& logit) const {
    std::vector<double> logits, values;
    for (std::int64_t p = 0; p <= t; ++p) {
      if (!held(p, t)) continue;
      logits.push_back(logit(p));
      values.insert(values.end(), v_[at(p)].begin(), v_[at(p)].end());
    }
    const std::vector<double> one{1.0};  // one dimension: a key is its logit
    return cpu::reference::attention({one, logits, values, {}, 1.0 / std::sqrt(dim_), 0.0}, dim_);
  }
  [[nodiscard]] static double dot(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  }
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

  static constexpr std::int64_t kTokens = 90;
  int dim_ = std::get<0>(GetParam()), sinks_ = std::get<1>(GetParam()), recent_ = std::get<2>(GetParam());
  cpu::RopeParams rope_{10000.0, 0, std::get<3>(GetParam())};
  std::vector<std::vector<float>> q_, k_, v_;
};

INSTANTIATE_TEST_SUITE_P(Streaming, StreamingLaws,
                         ::testing::Values(std::tuple(64, 4, 20, false), std::tuple(80, 1, 1, true),
                                           std::tuple(96, 0, 33, false), std::tuple(128, 7, 64, true),
                                           std::tuple(256, 4, 30, false)),
                         [](const auto& test) {
                           return concat("d", std::get<0>(test.param), "_s", std::get<1>(test.param), "_r",
                                         std::get<2>(test.param));
                         });

TEST_P(StreamingLaws, TwoRotationsOfTheQueryEqualSlotPositions) {
  bool any_turned = false;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const std::int64_t local_begin = std::max<std::int64_t>(t - recent_ + 1, sinks_);
    const std::int64_t turn = sink_rotation(local_begin, sinks_);
    // Keys before rotation, numbered by slot; the query has the last slot.
    std::int64_t slot = 0;
    const std::int64_t last_slot = std::min<std::int64_t>(t, sinks_ + recent_ - 1);
    const auto expected = attend(t, [&](std::int64_t p) {
      return dot(rotated(rope_, q_[at(t)], last_slot), rotated(rope_, k_[at(p)], slot++));
    });
    ASSERT_EQ(slot, last_slot + 1);
    // Keys as rotated when they entered; the query turned back from its own rotation for the sinks.
    const auto q = rotated(rope_, q_[at(t)], t), q_sinks = rotated(rope_, q, -turn);
    const auto result =
        attend(t, [&](std::int64_t p) { return dot(p < sinks_ ? q_sinks : q, rotated(rope_, k_[at(p)], p)); });
    EXPECT_NEAR(result.lse, expected.lse, 1e-6 * (1 + std::abs(expected.lse))) << t;
    for (std::size_t d = 0; d < result.out.size(); ++d) ASSERT_NEAR(result.out[d], expected.out[d], 2e-6) << t;
    any_turned |= turn > 0;
  }
  EXPECT_TRUE(any_turned);
}

TEST_P(StreamingLaws, AreDenseWhileEverythingFits) {
  for (std::int64_t t = 0; t < std::min<std::int64_t>(sinks_ + recent_, kTokens); ++t) {
    EXPECT_EQ(sink_rotation(std::max<std::int64_t>(t - recent_ + 1, sinks_), sinks_), 0) << t;
    for (std::int64_t p = 0; p <= t; ++p) EXPECT_TRUE(held(p, t)) << p << " at " << t;
  }
}

TEST(Streaming, KeepsNothing) {
  KeptTokens state = kept_tokens(Streaming{}, 4, 8);
  state.append(8);
  for (const Promotion& promotion : state.promote(5)) EXPECT_EQ(promotion, Promotion{});
  EXPECT_TRUE(state.slots().empty());
  EXPECT_EQ(state.recent_begin(), 9);
  EXPECT_THROW(state.accumulate({}), Error);
}

}  // namespace
}  // namespace tandem::gpu
