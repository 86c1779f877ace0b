// Angles from tables against long double arithmetic, and against the rotation that engines apply.
#include "cpu/rope_table.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "cpu/row_layout.h"
#include "runtime/base/random.h"

namespace tandem::cpu {
namespace {

struct RopeCase {
  RopeParams rope;
  std::int32_t dim;
};

class RopeTables : public ::testing::TestWithParam<RopeCase> {
 protected:
  [[nodiscard]] std::int32_t rotated_pairs() const {
    const auto& [rope, dim] = GetParam();
    return rope.known() ? (rope.dims == 0 ? dim : rope.dims) / 2 : 0;
  }
};

INSTANTIATE_TEST_SUITE_P(Ropes, RopeTables,
                         ::testing::Values(RopeCase{{1e4, 0, false}, 64}, RopeCase{{1e6, 0, false}, 128},
                                           RopeCase{{5e5, 0, true}, 96}, RopeCase{{1e4, 32, false}, 80},
                                           RopeCase{{1e12, 20, true}, 72}, RopeCase{{1.0, 0, false}, 2},
                                           RopeCase{{}, 17}));

TEST_P(RopeTables, GiveEveryAngle) {
  const auto& [rope, dim] = GetParam();
  const RopeTable table(rope, dim);
  const auto pairs = static_cast<std::size_t>(table.padded_pairs());
  EXPECT_EQ(table.padded_pairs() % kDimPadding, 0);
  EXPECT_GE(table.padded_pairs(), padded(dim) / 2);
  std::vector<double> cosines(pairs, 7), sines(pairs, 7);
  std::vector<float> short_cosines(pairs, 7), short_sines(pairs, 7);
  for (const std::int64_t position :
       {0L, 1L, 15L, 16L, 63L, 255L, 256L, 65535L, 65536L, 1000003L, (1L << 24) + 5, (1L << 31) - 1}) {
    table.at(position, cosines.data(), sines.data());
    table.at(position, short_cosines.data(), short_sines.data());
    for (std::size_t i = 0; i < pairs; ++i) {
      long double angle = 0;
      if (static_cast<std::int32_t>(i) < rotated_pairs()) {
        angle = static_cast<long double>(position) *
                std::pow(static_cast<long double>(rope.theta),
                         -static_cast<long double>(i) / static_cast<long double>(rotated_pairs()));
      }
      EXPECT_NEAR(cosines[i], static_cast<double>(std::cos(angle)), 1e-9 * (position > 1e7) + 1e-13) << position;
      EXPECT_NEAR(sines[i], static_cast<double>(std::sin(angle)), 1e-9 * (position > 1e7) + 1e-13) << position;
      EXPECT_EQ(short_cosines[i], static_cast<float>(cosines[i]));
      EXPECT_EQ(short_sines[i], static_cast<float>(sines[i]));
    }
  }
}

TEST_P(RopeTables, SayByWhatPartOfATurnPairsTurn) {
  const auto& [rope, dim] = GetParam();
  const RopeTable table(rope, dim);
  const auto pairs = static_cast<std::size_t>(table.padded_pairs());
  EXPECT_EQ(table.num_rotated(), rotated_pairs());
  std::vector<double> cosines(pairs), sines(pairs);
  for (const std::int64_t position : {0L, 1L, 63L, 65536L, 1000003L, (1L << 31) - 1}) {
    table.at(position, cosines.data(), sines.data());
    for (std::size_t i = 0; i < pairs; ++i) {
      const std::uint64_t turns = table.turns()[i] * static_cast<std::uint64_t>(position);  // whole ones drop out
      const double angle = std::ldexp(static_cast<double>(turns), -64) * 2 * std::numbers::pi;
      EXPECT_NEAR(cosines[i], std::cos(angle), 1e-9 * (position > 1e7) + 1e-11) << position;
      EXPECT_NEAR(sines[i], std::sin(angle), 1e-9 * (position > 1e7) + 1e-11) << position;
    }
  }
}

TEST_P(RopeTables, HoldTheAnglesOfABlock) {
  const auto& [rope, dim] = GetParam();
  const RopeTable table(rope, dim);
  const auto pairs = static_cast<std::size_t>(table.padded_pairs());
  std::vector<float> cosines(pairs), sines(pairs);
  for (int lane = 0; lane < RopeTable::kLanePositions; ++lane) {
    table.at(lane, cosines.data(), sines.data());
    for (std::size_t i = 0; i < pairs; ++i) {
      EXPECT_EQ(table.lanes()[(2 * i) * RopeTable::kLanePositions + static_cast<std::size_t>(lane)], cosines[i]);
      EXPECT_EQ(table.lanes()[(2 * i + 1) * RopeTable::kLanePositions + static_cast<std::size_t>(lane)], sines[i]);
    }
  }
  for (std::size_t group = 0; group < RopeTable::kGroups; ++group) {
    table.at(static_cast<std::int64_t>(group) * RopeTable::kLanePositions, cosines.data(), sines.data());
    for (std::size_t i = 0; i < pairs; ++i) {
      EXPECT_EQ(table.groups()[2 * group * pairs + i], cosines[i]);
      EXPECT_EQ(table.groups()[(2 * group + 1) * pairs + i], sines[i]);
    }
  }
}

TEST_P(RopeTables, TurnPairsAsRotateDoes) {
  const auto& [rope, dim] = GetParam();
  const RopeTable table(rope, dim);
  const auto pairs = static_cast<std::size_t>(table.padded_pairs());
  std::vector<double> cosines(pairs), sines(pairs);
  CounterRandom random(3, 1);
  std::vector<float> x(static_cast<std::size_t>(padded(dim)), 0.f);
  for (int d = 0; d < dim; ++d) x[static_cast<std::size_t>(d)] = static_cast<float>(random.normal());
  for (const std::int64_t position : {0, 1, 777, 1000003}) {
    auto expected = x;
    rotate(rope, dim, position, expected.data());
    table.at(position, cosines.data(), sines.data());
    std::vector<int> seen(x.size(), 0);
    for (std::size_t i = 0; i < x.size() / 2; ++i) {
      const auto [first, second] = table.elements(static_cast<std::int32_t>(i));
      const auto a = static_cast<std::size_t>(first), b = static_cast<std::size_t>(second);
      ++seen[a];
      ++seen[b];
      EXPECT_NEAR(x[a] * cosines[i] - x[b] * sines[i], expected[a], 1e-6);
      EXPECT_NEAR(x[b] * cosines[i] + x[a] * sines[i], expected[b], 1e-6);
    }
    EXPECT_EQ(seen, std::vector<int>(x.size(), 1));  // every element is in one pair
  }
}

}  // namespace
}  // namespace tandem::cpu
