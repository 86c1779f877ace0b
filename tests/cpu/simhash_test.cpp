#include "cpu/codec/simhash.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/store_fixture.h"

namespace tandem::cpu {
namespace {

constexpr int kDim = 64;

/// Two unit vectors at the angle `theta`.
AlignedVector<float> pair_at(double theta) {
  AlignedVector<float> vectors(2 * kDim, 0.f);
  vectors[3] = 1.f;
  vectors[kDim + 3] = static_cast<float>(std::cos(theta));
  vectors[kDim + 40] = static_cast<float>(std::sin(theta));
  return vectors;
}

TEST(SimHash, CodesAreTheSignBitsForEveryK) {
  CounterRandom random(1, 1);
  const auto x = testing::padded_queries(testing::representable_normals(random, 5 * kDim, DType::f32), kDim, 1.f);
  for (int bits = 1; bits <= kMaxBitsPerTable; ++bits) {
    const SimHash hash(7, kDim, bits, 37);
    std::vector<std::uint16_t> codes(5 * 37);
    AlignedVector<std::uint64_t> scratch;
    hash.encode(kernels_for(available_isas().back()), x.data(), 5, codes.data(), scratch);
    for (int v = 0; v < 5; ++v) {
      for (int t = 0; t < 37; ++t) {
        std::uint16_t expected = 0;
        for (int i = 0; i < bits; ++i) {
          double dot = 0;
          for (int d = 0; d < kDim; ++d)
            dot += static_cast<double>(x[static_cast<std::size_t>(v * kDim + d)]) *
                   hash.planes()[d * hash.num_planes() + t * bits + i];
          expected |= static_cast<std::uint16_t>((dot > 0 ? 1 : 0) << i);
        }
        EXPECT_EQ(codes[static_cast<std::size_t>(v * 37 + t)], expected) << "K " << bits;
      }
    }
  }
}

TEST(SimHash, EveryInstructionSetGivesTheSameCodes) {
  const SimHash hash(3, kDim, 10, 150);
  CounterRandom random(2, 2);
  const auto x = testing::padded_queries(testing::representable_normals(random, 64 * kDim, DType::f32), kDim, 1.f);
  AlignedVector<std::uint64_t> scratch;
  std::vector<std::uint16_t> first(64 * 150), codes(64 * 150);
  hash.encode(kernels_for(Isa::scalar), x.data(), 64, first.data(), scratch);
  for (const Isa isa : available_isas()) {
    hash.encode(kernels_for(isa), x.data(), 64, codes.data(), scratch);
    std::size_t different = 0;  // a sum that rounds to the other side of zero is possible, but rare
    for (std::size_t i = 0; i < codes.size(); ++i) different += codes[i] != first[i] ? 1 : 0;
    EXPECT_LE(different, 2u) << to_string(isa);
  }
}

TEST(SimHash, DependsOnItsSeedAlone) {
  const SimHash a(5, kDim, 4, 20), b(5, kDim, 4, 20), c(6, kDim, 4, 20);
  const auto size = static_cast<std::size_t>(padded(kDim) * a.num_planes());
  EXPECT_TRUE(std::equal(a.planes(), a.planes() + size, b.planes()));
  EXPECT_FALSE(std::equal(a.planes(), a.planes() + size, c.planes()));
}

TEST(SimHash, CollisionFrequenciesFollowTheAngle) {
  constexpr int kSeeds = 400;
  constexpr int kBits = 3, kTables = 40;
  for (const double theta : {0.0, 0.3, 0.8, 1.3, 2.0, M_PI}) {
    const auto vectors = pair_at(theta);
    const double x = std::pow(1 - theta / M_PI, kBits);
    double agreeing = 0, at_least_two = 0;
    AlignedVector<std::uint64_t> scratch;
    for (int seed = 0; seed < kSeeds; ++seed) {
      const SimHash hash(static_cast<std::uint64_t>(seed), kDim, kBits, kTables);
      std::uint16_t codes[2 * kTables];
      hash.encode(kernels_for(available_isas().back()), vectors.data(), 2, codes, scratch);
      int collisions = 0;
      for (int t = 0; t < kTables; ++t) collisions += codes[t] == codes[kTables + t] ? 1 : 0;
      agreeing += collisions;
      at_least_two += collisions >= 2 ? 1 : 0;
    }
    const double u = 1 - std::pow(1 - x, kTables - 1) * ((kTables - 1) * x + 1);
    const double trials = double{kSeeds} * kTables;
    EXPECT_NEAR(agreeing / trials, x, 4 * std::sqrt(x * (1 - x) / trials) + 1e-9) << theta;
    EXPECT_NEAR(at_least_two / kSeeds, u, 4 * std::sqrt(u * (1 - u) / kSeeds) + 1e-9) << theta;
  }
}

}  // namespace
}  // namespace tandem::cpu
