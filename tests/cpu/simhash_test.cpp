#include "cpu/codec/simhash.h"

#include <bit>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "tests/support/store_fixture.h"

namespace tandem::cpu {
namespace {

constexpr int kDim = 64;

SimHashParams params_of(int bits, int tables, HashPlanes planes) { return {bits, tables, planes, 512}; }

AlignedVector<float> random_vectors(int count, int dim) {
  CounterRandom random(2, 2);
  return testing::padded_queries(testing::representable_normals(random, count * dim, DType::f32), dim, 1.f);
}

/// Codes (count, tables) of `count` vectors (count, padded dim).
std::vector<std::uint16_t> codes_of(const SimHash& hash, Isa isa, const AlignedVector<float>& x, int count) {
  std::vector<std::uint16_t> blocks(static_cast<std::size_t>(hash.codes_size(count))), codes;
  HashScratch scratch;
  hash.encode(kernels_for(isa), x.data(), count, blocks.data(), scratch);
  for (int v = 0; v < count; ++v) {
    for (int t = 0; t < hash.num_tables(); ++t) codes.push_back(blocks[hash.code_index(v, t)]);
  }
  return codes;
}

TEST(SimHash, GaussianCodesAreTheSignsForEveryK) {
  const auto x = random_vectors(5, kDim);
  for (int bits = 1; bits <= kMaxBitsPerTable; ++bits) {
    const SimHash hash(7, kDim, params_of(bits, 37, HashPlanes::gaussian));
    const auto codes = codes_of(hash, available_isas().back(), x, 5);
    for (int v = 0; v < 5; ++v) {
      for (int t = 0; t < 37; ++t) {
        std::uint16_t expected = 0;
        for (int i = 0; i < bits; ++i) {
          double dot = 0;
          for (int d = 0; d < kDim; ++d)
            dot += static_cast<double>(x[static_cast<std::size_t>(v * kDim + d)]) *
                   hash.planes()[d * hash.num_bits() + t * bits + i];
          expected |= static_cast<std::uint16_t>((dot > 0 ? 1 : 0) << i);
        }
        EXPECT_EQ(codes[static_cast<std::size_t>(v * 37 + t)], expected) << "K " << bits;
      }
    }
  }
}

/// Signs of the components of H S_b H S_0 x, S_b = diag(signs[b]), for each b > 0 in turn.
std::vector<bool> naive_hadamard_bits(const float* x, int padded_dim, const float* signs, int block, int num_bits) {
  std::vector<double> mixed(static_cast<std::size_t>(block));
  const auto sign = [](int i, int j) { return std::popcount(static_cast<unsigned>(i & j)) % 2 == 0 ? 1.0 : -1.0; };
  for (int i = 0; i < block; ++i) {
    for (int j = 0; j < padded_dim; ++j)
      mixed[static_cast<std::size_t>(i)] += sign(i, j) * static_cast<double>(signs[j]) * x[j];
  }
  std::vector<bool> bits;
  for (int b = 0; b < num_bits; ++b) {
    const float* of_block = signs + (1 + b / block) * block;
    double sum = 0;
    for (int j = 0; j < block; ++j)
      sum += sign(b % block, j) * static_cast<double>(of_block[j]) * mixed[static_cast<std::size_t>(j)];
    bits.push_back(sum > 0);
  }
  return bits;
}

class Hadamard : public ::testing::TestWithParam<int /*dim*/> {};

INSTANTIATE_TEST_SUITE_P(SimHash, Hadamard, ::testing::Values(1, 16, 64, 80, 96, 128, 256));

TEST_P(Hadamard, CodesSampleTheSignsOfTheTransform) {
  const int dim = GetParam();
  constexpr int kCount = 70;  // more than a block
  const auto x = random_vectors(kCount, dim);
  const SimHash hash(7, dim, params_of(10, 40, HashPlanes::hadamard));
  EXPECT_EQ(hash.num_bits(), 512);
  const int block = static_cast<int>(std::bit_ceil(static_cast<unsigned>(padded(dim))));
  const auto codes = codes_of(hash, available_isas().back(), x, kCount);
  for (const int v : {0, 15, 16, 63, 64, 69}) {
    const auto bits = naive_hadamard_bits(x.data() + v * padded(dim), padded(dim), hash.planes(), block, 512);
    for (int t = 0; t < 40; ++t) {
      for (int i = 0; i < 10; ++i) {
        EXPECT_EQ((codes[static_cast<std::size_t>(v * 40 + t)] >> i & 1) != 0,
                  bits[hash.sampled()[static_cast<std::size_t>(t * 10 + i)]])
            << v << ", table " << t << ", bit " << i;
      }
    }
  }
}

/// Sums without fused operations and in one order: equal, not only nearly so.
TEST_P(Hadamard, EveryInstructionSetGivesTheSameCodes) {
  const int dim = GetParam();
  const SimHash hash(3, dim, params_of(10, 150, HashPlanes::hadamard));
  const auto x = random_vectors(100, dim);
  const auto expected = codes_of(hash, Isa::scalar, x, 100);
  for (const Isa isa : available_isas()) EXPECT_EQ(codes_of(hash, isa, x, 100), expected) << to_string(isa);
}

TEST(SimHash, EveryInstructionSetGivesNearlyTheSameGaussianCodes) {
  const SimHash hash(3, kDim, params_of(10, 150, HashPlanes::gaussian));
  const auto x = random_vectors(64, kDim);
  const auto first = codes_of(hash, Isa::scalar, x, 64);
  for (const Isa isa : available_isas()) {
    const auto codes = codes_of(hash, isa, x, 64);
    std::size_t different = 0;  // a sum that rounds to the other side of zero is possible, but rare
    for (std::size_t i = 0; i < codes.size(); ++i) different += codes[i] != first[i] ? 1 : 0;
    EXPECT_LE(different, 2u) << to_string(isa);
  }
}

TEST(SimHash, TablesSampleBitsWithoutReplacement) {
  const SimHash hash(3, 128, {12, 300, HashPlanes::hadamard, 128});
  std::set<int> used;
  for (std::size_t t = 0; t < 300; ++t) {
    const auto* bits = hash.sampled().data() + t * 12;
    const std::set<int> table(bits, bits + 12);
    EXPECT_EQ(table.size(), 12u) << t;
    EXPECT_LT(*table.rbegin(), 128);
    used.insert(table.begin(), table.end());
  }
  EXPECT_EQ(used.size(), 128u);  // 3,600 draws leave none out
}

TEST(SimHash, SharedBitsAreWholeBlocks) {
  EXPECT_EQ(SimHash(1, 256, {10, 150, HashPlanes::hadamard, 128}).num_bits(), 256);
  EXPECT_EQ(SimHash(1, 96, {10, 150, HashPlanes::hadamard, 192}).num_bits(), 256);
  EXPECT_EQ(SimHash(1, 64, {10, 150, HashPlanes::hadamard, 192}).num_bits(), 192);
  EXPECT_EQ(SimHash(1, 16, {10, 150, HashPlanes::hadamard, 2048}).num_bits(), 2048);
}

TEST(SimHash, DependsOnItsSeedAlone) {
  const auto x = random_vectors(20, kDim);
  for (const HashPlanes planes : {HashPlanes::hadamard, HashPlanes::gaussian}) {
    const auto codes = [&](std::uint64_t seed) {
      return codes_of(SimHash(seed, kDim, params_of(8, 20, planes)), Isa::scalar, x, 20);
    };
    EXPECT_EQ(codes(5), codes(5));
    EXPECT_NE(codes(5), codes(6));
  }
}

/// Vectors at the angle `theta` in general position, or with a few components that outweigh the others as in many keys.
AlignedVector<float> pair_at(double theta, int dim, bool outliers) {
  AlignedVector<float> vectors(static_cast<std::size_t>(2 * padded(dim)), 0.f);
  std::vector<double> a(static_cast<std::size_t>(dim), 0.0), b(a);
  CounterRandom random(8, 1);
  for (std::size_t d = 0; d < a.size(); ++d) {
    const double size = outliers && d % 20 == 3 ? 5 : 1;
    a[d] = size * random.normal();
    b[d] = size * random.normal();
  }
  double aa = 0, ab = 0, bb = 0;
  for (std::size_t d = 0; d < a.size(); ++d) aa += a[d] * a[d], ab += a[d] * b[d];
  for (std::size_t d = 0; d < a.size(); ++d) b[d] -= ab / aa * a[d], bb += b[d] * b[d];
  for (std::size_t d = 0; d < a.size(); ++d) {
    vectors[d] = static_cast<float>(a[d] / std::sqrt(aa));
    vectors[static_cast<std::size_t>(padded(dim)) + d] =
        static_cast<float>(std::cos(theta) * a[d] / std::sqrt(aa) + std::sin(theta) * b[d] / std::sqrt(bb));
  }
  return vectors;
}

struct Family {
  HashPlanes planes;
  int dim;
  bool outliers;
};

class Collisions : public ::testing::TestWithParam<Family> {};

INSTANTIATE_TEST_SUITE_P(
    SimHash, Collisions,
    ::testing::Values(Family{HashPlanes::gaussian, 64, true}, Family{HashPlanes::hadamard, 64, false},
                      Family{HashPlanes::hadamard, 64, true}, Family{HashPlanes::hadamard, 80, false},
                      Family{HashPlanes::hadamard, 96, true}, Family{HashPlanes::hadamard, 128, false}));

TEST_P(Collisions, FrequenciesFollowTheAngle) {
  constexpr int kSeeds = 400;
  constexpr int kBits = 3, kTables = 40;
  const Family family = GetParam();
  for (const double theta : {0.0, 0.3, 0.8, 1.3, 2.0, M_PI}) {
    const auto vectors = pair_at(theta, family.dim, family.outliers);
    const double x = std::pow(1 - theta / M_PI, kBits);
    double agreeing = 0, square = 0, at_least_two = 0;
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
      const SimHash hash(seed, family.dim, params_of(kBits, kTables, family.planes));
      const auto codes = codes_of(hash, available_isas().back(), vectors, 2);
      int collisions = 0;
      for (std::size_t t = 0; t < kTables; ++t) collisions += codes[t] == codes[kTables + t] ? 1 : 0;
      agreeing += collisions;
      square += collisions * collisions;
      at_least_two += collisions >= 2 ? 1 : 0;
    }
    // Tables that share bits are dependent within a seed: the standard error comes from the seeds.
    const double mean = agreeing / kSeeds;
    const double error = std::sqrt(std::max(0.0, square / kSeeds - mean * mean) / kSeeds);
    const double shared =
        family.planes == HashPlanes::gaussian ? 0.0 : 0.02;  // what orthogonal, shared bits may change
    EXPECT_NEAR(mean, x * kTables, 4 * error + shared * x * kTables + 1e-6) << theta;
    const double u = 1 - std::pow(1 - x, kTables - 1) * ((kTables - 1) * x + 1);
    EXPECT_NEAR(at_least_two / kSeeds, u, 4 * std::sqrt(u * (1 - u) / kSeeds) + shared + 1e-9) << theta;
  }
}

}  // namespace
}  // namespace tandem::cpu
