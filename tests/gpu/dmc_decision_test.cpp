#include "gpu/window_policy/dmc_decision.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::gpu {
namespace {

using testing::error_message;

TEST(DmcDecision, MergesWhereTheLogitIsPositive) {
  const std::vector<float> omega{0.f};
  const DmcParams neuron;
  EXPECT_FALSE(decide(neuron, 0.f, omega).merge);
  EXPECT_FALSE(decide(neuron, 5.f, omega).merge);
  EXPECT_TRUE(decide(neuron, std::nextafter(5.f, 6.f), omega).merge);
  DmcParams external;
  external.source = DmcSource::external;
  EXPECT_FALSE(decide(external, 0.f, omega).merge);
  EXPECT_TRUE(decide(external, 1e-30f, omega).merge);
}

TEST(DmcDecision, WeighsByTheMeanOfTheGroup) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const std::vector<float> omegas{1.f, -2.f, 0.5f, -6.f}, one{-1.625f};
  DmcParams params;
  EXPECT_NEAR(decide(params, 0.f, omegas).weight, sigmoid(-1.625 + 5), 1e-7);
  EXPECT_EQ(decide(params, 0.f, omegas), decide(params, 0.f, one));
  params.omega_epsilon = 0x1p-7f;
  EXPECT_NEAR(decide(params, 0.f, omegas).weight, sigmoid(-1.625 + 5) + 0x1p-7, 1e-7);
  params.source = DmcSource::external;
  params.omega_epsilon = 0.f;
  EXPECT_NEAR(decide(params, 0.f, omegas).weight, sigmoid(-1.625), 1e-7);
}

TEST(DmcDecision, WeightsNeverVanish) {
  const std::vector<float> least{-1e30f}, most{1e30f};
  EXPECT_GT(decide({}, 0.f, least).weight, 0.f);
  EXPECT_EQ(decide({}, 0.f, most).weight, 1.f);
}

TEST(DmcDecision, MissingAndImpossibleDecisionsAreErrors) {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> good{1.f, 2.f}, bad{1.f, nan}, endless{-infinity};
  EXPECT_NE(error_message([&] { decide({}, nan, good); }).find("nan; allowed: finite values"), std::string::npos);
  EXPECT_EQ(error_message([&] { decide({}, infinity, good); }), "alpha is inf; allowed: finite values");
  EXPECT_EQ(error_message([&] { decide({}, 0.f, {}); }),
            "omega is missing; needed: one value, or one for each query head");
  EXPECT_EQ(error_message([&] { decide({}, 0.f, endless); }), "omega[0] is -inf; allowed: finite values");
  EXPECT_NE(error_message([&] { decide({}, 0.f, bad); }), "accepted");
}

TEST(DmcDecision, TheNeuronStaysOutOfRotatedVectors) {
  const cpu::RopeParams rope{10000.0, 0, false};
  std::vector<float> x{1.f, 2.f, 3.f, 4.f}, expected{1.f, 2.f, 3.f, 0.f};
  cpu::rotate(rope, 4, 9, expected.data());
  ASSERT_NE(expected[3], 0.f);
  expected[3] = 0.f;
  rotate_for_dmc({}, rope, 9, x);
  EXPECT_EQ(x, expected);

  DmcParams external;
  external.source = DmcSource::external;
  std::vector<float> whole{1.f, 2.f, 3.f, 4.f}, turned = whole;
  cpu::rotate(rope, 4, 9, turned.data());
  rotate_for_dmc(external, rope, 9, whole);
  EXPECT_EQ(whole, turned);
}

TEST(DmcParams, AreValidated) {
  const auto with = [](const std::function<void(DmcParams&)>& change) {
    DmcParams params;
    change(params);
    return error_message([&] { validate(params); });
  };
  EXPECT_EQ(with([](auto&) {}), "accepted");
  EXPECT_EQ(with([](auto& p) { p.window = 0; }), "window is 0; allowed: 1 to 64");
  EXPECT_EQ(with([](auto& p) { p.window = 65; }), "window is 65; allowed: 1 to 64");
  EXPECT_EQ(with([](auto& p) { p.rollback = -1; }), "rollback is -1; allowed: 0 to 4096");
  EXPECT_EQ(with([](auto& p) { p.rollback = 4097; }), "rollback is 4097; allowed: 0 to 4096");
  EXPECT_EQ(with([](auto& p) { p.alpha_bias = 1001; }), "alpha_bias is 1001; allowed: -1000 to 1000");
  EXPECT_NE(with([](auto& p) { p.omega_bias = std::nanf(""); }), "accepted");
  EXPECT_EQ(with([](auto& p) { p.omega_epsilon = -0.5f; }), "omega_epsilon is -0.5; allowed: 0 to 1");
  EXPECT_NE(with([](auto& p) { p.omega_epsilon = std::nanf(""); }), "accepted");
}

}  // namespace
}  // namespace tandem::gpu
