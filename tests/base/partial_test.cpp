#include "runtime/base/partial.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/random.h"

namespace tandem {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kRows = 5;
constexpr std::int64_t kDim = 7;

/// A partial that owns its values.
struct Partial {
  std::vector<float> out = std::vector<float>(kRows * kDim, 0.f);
  std::vector<float> lse = std::vector<float>(kRows, kEmpty);

  PartialAttention view() { return {out.data(), lse.data(), kRows, kDim}; }
  [[nodiscard]] ConstPartialAttention view() const { return {out.data(), lse.data(), kRows, kDim}; }
};

/// Row r gets lse centre + spread * normal; about one row in eight is empty.
Partial random_partial(CounterRandom& random, double centre, double spread) {
  Partial p;
  for (std::int64_t r = 0; r < kRows; ++r) {
    if (random.below(8) == 0) continue;
    p.lse[static_cast<std::size_t>(r)] = static_cast<float>(centre + spread * random.normal());
    for (std::int64_t d = 0; d < kDim; ++d)
      p.out[static_cast<std::size_t>(r * kDim + d)] = static_cast<float>(random.normal());
  }
  return p;
}

Partial merged(Partial a, const Partial& b) {
  merge_state(a.view(), b.view());
  return a;
}

/// The same merge of any number of partials, in double and in one go.
struct Reference {
  std::vector<double> out = std::vector<double>(kRows * kDim, 0.0);
  std::vector<double> lse = std::vector<double>(kRows, -std::numeric_limits<double>::infinity());

  explicit Reference(const std::vector<Partial>& parts) {
    for (std::size_t r = 0; r < kRows; ++r) {
      double top = lse[r];
      for (const Partial& p : parts) top = std::max(top, static_cast<double>(p.lse[r]));
      if (std::isinf(top)) continue;
      double sum = 0;
      for (const Partial& p : parts) sum += std::exp(p.lse[r] - top);
      lse[r] = top + std::log(sum);
      for (const Partial& p : parts) {
        for (std::size_t d = 0; d < kDim; ++d) out[r * kDim + d] += p.out[r * kDim + d] * std::exp(p.lse[r] - lse[r]);
      }
    }
  }
};

/// `rounding` is in units of the last place of each lse, and of 1 for outputs (which are convex combinations).
void expect_near(const Partial& actual, const Reference& expected, double rounding) {
  constexpr double kUnit = 0x1p-23;
  for (std::size_t r = 0; r < kRows; ++r) {
    if (std::isinf(expected.lse[r])) {
      EXPECT_EQ(actual.lse[r], kEmpty);
    } else {
      EXPECT_NEAR(actual.lse[r], expected.lse[r], rounding * kUnit * std::max(1.0, std::abs(expected.lse[r])));
    }
    // A weight is e^(difference of two rounded lse): an lse of 1e4 is known to 1e-3 only.
    const double tolerance =
        rounding * kUnit * 4 * std::max(1.0, std::isinf(expected.lse[r]) ? 0.0 : std::abs(expected.lse[r]));
    for (std::size_t d = 0; d < kDim; ++d) EXPECT_NEAR(actual.out[r * kDim + d], expected.out[r * kDim + d], tolerance);
  }
}

struct Range {
  double centre;
  double spread;
};

class MergeState : public testing::TestWithParam<Range> {};

INSTANTIATE_TEST_SUITE_P(Partial, MergeState,
                         testing::Values(Range{0, 1}, Range{0, 30}, Range{0, 250}, Range{1e4, 5}, Range{-1e4, 5},
                                         Range{-80, 10}, Range{88, 1}, Range{0, 1e4}));

TEST_P(MergeState, AgreesWithDouble) {
  CounterRandom random(1, 0);
  for (int i = 0; i < 500; ++i) {
    const Partial a = random_partial(random, GetParam().centre, GetParam().spread);
    const Partial b = random_partial(random, GetParam().centre, GetParam().spread);
    expect_near(merged(a, b), Reference({a, b}), 2);
  }
}

TEST_P(MergeState, IsCommutativeToTheLastBit) {
  CounterRandom random(2, 0);
  for (int i = 0; i < 500; ++i) {
    const Partial a = random_partial(random, GetParam().centre, GetParam().spread);
    const Partial b = random_partial(random, GetParam().centre, GetParam().spread);
    const Partial ab = merged(a, b);
    const Partial ba = merged(b, a);
    EXPECT_EQ(ab.out, ba.out);
    EXPECT_EQ(ab.lse, ba.lse);
  }
}

TEST_P(MergeState, IsAssociativeToRounding) {
  CounterRandom random(3, 0);
  for (int i = 0; i < 500; ++i) {
    const Partial a = random_partial(random, GetParam().centre, GetParam().spread);
    const Partial b = random_partial(random, GetParam().centre, GetParam().spread);
    const Partial c = random_partial(random, GetParam().centre, GetParam().spread);
    const Reference expected({a, b, c});
    expect_near(merged(merged(a, b), c), expected, 4);
    expect_near(merged(a, merged(b, c)), expected, 4);
  }
}

TEST_P(MergeState, ManyPartialsStayAccurateAndFinite) {
  CounterRandom random(4, 0);
  std::vector<Partial> parts;
  Partial sum;
  for (int i = 0; i < 300; ++i) {
    parts.push_back(random_partial(random, GetParam().centre, GetParam().spread));
    merge_state(sum.view(), as_const(parts.back().view()));
  }
  expect_near(sum, Reference(parts), 300);
}

TEST_P(MergeState, EmptyIsNeutral) {
  CounterRandom random(5, 0);
  for (int i = 0; i < 100; ++i) {
    const Partial a = random_partial(random, GetParam().centre, GetParam().spread);
    for (const Partial& with_empty : {merged(a, Partial{}), merged(Partial{}, a)}) {
      EXPECT_EQ(with_empty.out, a.out);
      EXPECT_EQ(with_empty.lse, a.lse);
    }
  }
}

TEST_P(MergeState, SinksAreKeysOfValueZero) {
  CounterRandom random(6, 0);
  for (int i = 0; i < 500; ++i) {
    Partial a = random_partial(random, GetParam().centre, GetParam().spread);
    Partial sink = random_partial(random, GetParam().centre, GetParam().spread);  // a row without one has -inf
    std::fill(sink.out.begin(), sink.out.end(), 0.f);
    const Partial expected = merged(a, sink);
    merge_sinks(a.view(), sink.lse.data());
    EXPECT_EQ(a.out, expected.out);
    EXPECT_EQ(a.lse, expected.lse);
  }
}

TEST(Partial, EmptyAndEmptyIsEmptyNotNaN) {
  Partial a;
  std::fill(a.out.begin(), a.out.end(), 3.f);
  set_empty(a.view());
  const Partial both = merged(a, Partial{});
  EXPECT_EQ(both.out, Partial{}.out);
  EXPECT_EQ(both.lse, Partial{}.lse);
  const std::vector<float> no_sinks(kRows, kEmpty);
  merge_sinks(a.view(), no_sinks.data());
  EXPECT_EQ(a.out, Partial{}.out);
  EXPECT_EQ(a.lse, Partial{}.lse);
}

TEST(Partial, ASpreadOf500NatsLeavesTheLargerOneAlone) {
  CounterRandom random(7, 0);
  for (const double difference : {110.0, 500.0, 1e4, 3e38}) {
    Partial a = random_partial(random, 0, 1);
    Partial b = random_partial(random, 0, 1);
    for (std::size_t r = 0; r < kRows; ++r) {
      a.lse[r] = 1.5f;
      b.lse[r] = static_cast<float>(1.5 - difference);
    }
    const Partial both = merged(a, b);
    EXPECT_EQ(both.out, a.out) << difference;
    EXPECT_EQ(both.lse, a.lse) << difference;
  }
}

TEST(Partial, ASinkAloneTakesAllMass) {
  Partial a;
  const std::vector<float> sinks(kRows, -3.f);
  merge_sinks(a.view(), sinks.data());
  EXPECT_EQ(a.out, Partial{}.out);
  EXPECT_EQ(a.lse, sinks);
}

TEST(Partial, NoRowsAndNoColumnsAreFine) {
  float lse_a[1] = {0.f};
  const float lse_b[1] = {0.f};
  merge_state({nullptr, nullptr, 0, 4}, {nullptr, nullptr, 0, 4});
  merge_state({nullptr, lse_a, 1, 0}, {nullptr, lse_b, 1, 0});
  EXPECT_FLOAT_EQ(lse_a[0], std::log(2.f));
}

}  // namespace
}  // namespace tandem
