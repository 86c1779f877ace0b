#include "runtime/base/random.h"

#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace tandem {
namespace {

constexpr std::uint64_t kAllOnes = ~std::uint64_t{0};

TEST(CounterRandom, FirstValuesNeverChange) {
  // From an implementation of SplitMix64 in another language: stored indexes and traces depend on these numbers.
  struct Golden {
    std::uint64_t seed, stream;
    std::array<std::uint64_t, 3> values;
  };
  const Golden table[] = {
      {0, 0, {0x568a9b0b1a2c05ecu, 0x44e5b8b147ef718bu, 0x458563ab55521133u}},
      {1, 0, {0x85c61a300ec70fa1u, 0x4952c2a6e1ef0b78u, 0xf30f1e318359884bu}},
      {0, 1, {0x6ec85f1f8547bc0cu, 0x6cf63afcc21a470au, 0x8a27b94cff7526aau}},
      {12345, 678, {0x529b5a87c27d5e7du, 0xe55d12bf9d788e9au, 0x1f0a85bd4eb859e6u}},
      {kAllOnes, kAllOnes, {0xbb01391f6277d93cu, 0x03c554c6013f24b5u, 0x00ee715d1a32488eu}},
  };
  for (const Golden& golden : table) {
    CounterRandom random(golden.seed, golden.stream);
    for (const std::uint64_t expected : golden.values) EXPECT_EQ(random.next(), expected) << golden.seed;
  }
}

TEST(CounterRandom, AStreamDoesNotDependOnOthers) {
  CounterRandom alone(7, 3);
  CounterRandom other(7, 4);
  CounterRandom mixed(7, 3);
  for (int i = 0; i < 100; ++i) {
    other.next();
    EXPECT_EQ(alone.next(), mixed.next());
  }
}

TEST(CounterRandom, UniformHasTheMomentsOfAUniform) {
  constexpr int kDraws = 400'000;
  CounterRandom random(1, 2);
  std::array<double, 4> moments{};
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.uniform();
    ASSERT_GT(x, 0.0);
    ASSERT_LT(x, 1.0);
    for (std::size_t m = 0; m < moments.size(); ++m) moments[m] += std::pow(x, m + 1) / kDraws;
  }
  for (std::size_t m = 0; m < moments.size(); ++m) {
    const double n = static_cast<double>(m) + 1;
    const double deviation = std::sqrt((1 / (2 * n + 1) - 1 / ((n + 1) * (n + 1))) / kDraws);
    EXPECT_NEAR(moments[m], 1 / (n + 1), 4 * deviation) << "moment " << n;
  }
}

TEST(CounterRandom, NormalHasTheMomentsOfANormal) {
  constexpr int kDraws = 400'000;
  CounterRandom random(3, 4);
  std::array<double, 4> moments{};
  int beyond_three = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    for (std::size_t m = 0; m < moments.size(); ++m) moments[m] += std::pow(x, m + 1) / kDraws;
    beyond_three += std::abs(x) > 3 ? 1 : 0;
  }
  const std::array<double, 4> expected{0, 1, 0, 3};
  const std::array<double, 4> variance{1, 2, 15, 96};  // of x, x^2, x^3, x^4
  for (std::size_t m = 0; m < moments.size(); ++m) {
    EXPECT_NEAR(moments[m], expected[m], 4 * std::sqrt(variance[m] / kDraws)) << "moment " << m + 1;
  }
  EXPECT_NEAR(beyond_three, 0.0026998 * kDraws, 4 * std::sqrt(0.0027 * kDraws));
}

TEST(CounterRandom, StreamsAndSeedsAreUncorrelated) {
  constexpr int kDraws = 20'000;
  const std::array<std::array<std::uint64_t, 2>, 6> sources{{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {kAllOnes, 0}}};
  std::vector<std::vector<double>> draws;
  for (const auto& [seed, stream] : sources) {
    CounterRandom random(seed, stream);
    draws.emplace_back(kDraws);
    for (double& x : draws.back()) x = random.normal();
  }
  for (std::size_t a = 0; a < draws.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      double correlation = 0;
      for (int i = 0; i < kDraws; ++i) {
        const auto n = static_cast<std::size_t>(i);
        correlation += draws[a][n] * draws[b][n] / kDraws;
      }
      EXPECT_LT(std::abs(correlation), 4 / std::sqrt(kDraws)) << a << ", " << b;
    }
  }
}

TEST(CounterRandom, BelowStaysBelowAndFillsTheRange) {
  CounterRandom random(5, 6);
  std::array<int, 10> counts{};
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t x = random.below(counts.size());
    ASSERT_LT(x, counts.size());
    ++counts[x];
  }
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 4 * std::sqrt(9'000.0));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0u);
}

}  // namespace
}  // namespace tandem
