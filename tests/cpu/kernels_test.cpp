// Each kernel of each instruction set against the same thing in double precision.
#include "cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "cpu/aligned_vector.h"
#include "cpu/codec/simhash.h"
#include "tests/support/reference_sequence.h"

namespace tandem::cpu {
namespace {

using testing::representable_normals;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class KernelsTest : public ::testing::TestWithParam<Isa> {
 protected:
  const Kernels& kernels = kernels_for(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Isas, KernelsTest, ::testing::ValuesIn(available_isas()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

/// e^x for x <= 0 as the softmax has it: accumulate() turns scores into weights, here with a maximum of 0.
std::vector<float> exponentials(const Kernels& kernels, const std::vector<float>& x) {
  constexpr int kDim = kDimPadding;
  AlignedVector<float> zeros(kDim), decoded(kBlockRows * kDim), sum(1), acc(kDim), max(1);
  const std::vector<const std::byte*> rows(kBlockRows, reinterpret_cast<const std::byte*>(zeros.data()));
  std::vector<float> y;
  while (y.size() < x.size()) {
    AlignedVector<float> scores(kBlockRows, -kInfinity);
    const std::size_t count = std::min<std::size_t>(kBlockRows, x.size() - y.size());
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(y.size()), count, scores.begin());
    kernels.accumulate[DType::f32](scores.data(), {}, 1, kDim, 0, {rows.data(), kBlockRows}, decoded.data(),
                                   {max.data(), sum.data(), acc.data()});
    y.insert(y.end(), scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return y;
}

TEST_P(KernelsTest, ExpIsRightOverTheWholeRange) {
  std::vector<float> x{0.f,    -0.f,  -1e-30f, -1e-7f, -1.f,   -86.9f,    -87.f,
                       -87.4f, -88.f, -104.f,  -1e4f,  -3e38f, -kInfinity};
  for (int i = 0; i < 20000; ++i) x.push_back(-88.f * static_cast<float>(i) / 20000.f);
  const std::vector<float> y = exponentials(kernels, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    EXPECT_NEAR(y[i], exact, exact * 3e-7 + 1.7e-38) << x[i];
  }
  EXPECT_EQ(y[12], 0.f);
}

TEST_P(KernelsTest, SoftcapIsTanhAndKeepsHugeLogitsFinite) {
  AlignedVector<float> x(64);
  for (int i = 0; i < 64; ++i)
    x[static_cast<std::size_t>(i)] = static_cast<float>((i - 32) * (i - 32) * (i % 2 == 0 ? 1 : -1));
  x[0] = -kInfinity;
  x[1] = 1e30f;
  AlignedVector<float> y = x;
  kernels.softcap(y.data(), 64, 30.f);
  for (std::size_t i = 0; i < 64; ++i) {
    EXPECT_NEAR(y[i], 30.0 * std::tanh(static_cast<double>(x[i]) / 30.0), 2e-5) << x[i];
  }
}

/// u by its definition, in double: one minus the first terms of the binomial distribution, or their complement's sum.
double exact_collision_probability(double p, int bits, int tables, int min_collisions) {
  const double x = std::pow(p, bits);
  double u = 0;  // the sum of the terms from min_collisions on, which does not cancel
  for (int j = min_collisions; j <= tables; ++j) {
    const double log_binomial = std::lgamma(tables + 1.0) - std::lgamma(j + 1.0) - std::lgamma(tables - j + 1.0);
    const double log_term = log_binomial + (x > 0 ? j * std::log(x) : -1e300) +
                            (x < 1 ? (tables - j) * std::log1p(-x) : (tables == j ? 0 : -1e300));
    u += std::exp(log_term);
  }
  return u;
}

TEST_P(KernelsTest, CollisionWeightsFollowTheExactFormula) {
  for (const int bits : {1, 2, 5, 8, 10, 11, 12}) {
    for (const int tables : {1, 2, 3, 75, 150, 300}) {
      for (const int m : {1, 2}) {
        if (m > tables) continue;
        const CollisionWeight weight = collision_weight(bits, tables, m);
        AlignedVector<float> scores(kBlockRows), inverse_norms(kBlockRows, 1.f), weights(kBlockRows);
        for (int i = 0; i < kBlockRows; ++i)
          scores[static_cast<std::size_t>(i)] = -0.3f + 1.3f * static_cast<float>(i) / (kBlockRows - 1);
        kernels.simhash.collision_log_weights(weight, scores.data(), inverse_norms.data(), kBlockRows, 0.f, 1.f,
                                              weights.data());
        for (std::size_t i = 0; i < kBlockRows; ++i) {
          const double p = 1.0 - std::acos(std::min(1.0, static_cast<double>(scores[i]))) / M_PI;
          const double u = exact_collision_probability(p, bits, tables, m);
          if (u < 1e-12) continue;  // such a row is never found; only finiteness matters, and is checked below
          EXPECT_NEAR(weights[i], -std::log(u), 2e-5 + 1e-5 * bits)
              << "K " << bits << " L " << tables << " m " << m << " cos " << scores[i];
        }
      }
    }
  }
}

TEST_P(KernelsTest, CollisionWeightsAreFiniteForAnyAngle) {
  const CollisionWeight weight = collision_weight(10, 150, 2);
  AlignedVector<float> scores(kBlockRows, 0.f), inverse_norms(kBlockRows, 1.f), weights(kBlockRows);
  // Parallel, opposite and, by rounding, beyond; a key equal to the mean (norm 0); a huge score.
  const float special[] = {1.f, -1.f, 1.0000001f, -1.0000001f, 2.f, -2.f, 0.f, 1e30f, -1e30f, 1e-40f};
  for (std::size_t i = 0; i < std::size(special); ++i) scores[i] = special[i];
  inverse_norms[20] = 0.f;
  kernels.simhash.collision_log_weights(weight, scores.data(), inverse_norms.data(), kBlockRows, 0.f, 1.f,
                                        weights.data());
  for (const float w : weights) {
    EXPECT_TRUE(std::isfinite(w));
    EXPECT_GE(w, 0.f);
  }
  EXPECT_EQ(weights[0], 0.f);  // parallel: found for certain
}

class DotKernels : public ::testing::TestWithParam<std::tuple<Isa, int /*dim*/, DType>> {};

INSTANTIATE_TEST_SUITE_P(Isas, DotKernels,
                         ::testing::Combine(::testing::ValuesIn(available_isas()),
                                            ::testing::Values(16, 64, 80, 96, 128, 256),
                                            ::testing::Values(DType::f32, DType::f16, DType::bf16)));

TEST_P(DotKernels, ScoresAreDotProductsAndTheRestIsHidden) {
  const auto [isa, dim, dtype] = GetParam();
  const Kernels& kernels = kernels_for(isa);
  const RowLayout layout = RowLayout::of(resolved({1, 3, 1, dim, dim, 0.f, 0.f}), dtype);
  CounterRandom random(1, static_cast<std::uint64_t>(dim));
  const auto k = representable_normals(random, std::int64_t{kBlockRows} * dim, dtype);
  const auto q = representable_normals(random, 3 * dim, DType::f32);
  const AlignedVector<float> queries(q.begin(), q.end());
  AlignedVector<std::byte> memory(static_cast<std::size_t>(layout.page_bytes()));
  std::vector<const std::byte*> rows;
  for (int r = 0; r < kBlockRows; ++r) {
    std::byte* row = memory.data() + r * layout.row_bytes;
    const auto* key = reinterpret_cast<const std::byte*>(k.data() + std::ptrdiff_t{r} * dim);
    write_row(layout, DType::f32, key, key, row);
    rows.push_back(row);
  }
  AlignedVector<float> decoded(static_cast<std::size_t>(kBlockRows * dim)), scores(3 * kBlockRows);
  for (const int count : {1, 7, 8, 9, 15, 16, 17, 63, 64}) {
    kernels.scores[dtype](queries.data(), 3, dim, {rows.data(), count}, decoded.data(), scores.data());
    for (int v = 0; v < 3; ++v) {
      for (int r = 0; r < kBlockRows; ++r) {
        const float score = scores[static_cast<std::size_t>(v * kBlockRows + r)];
        if (r >= count) {
          EXPECT_EQ(score, -kInfinity);
          continue;
        }
        double exact = 0;
        for (int d = 0; d < dim; ++d)
          exact +=
              static_cast<double>(q[static_cast<std::size_t>(v * dim + d)]) * k[static_cast<std::size_t>(r * dim + d)];
        EXPECT_NEAR(score, exact, 1e-5 * dim) << v << " " << r << " of " << count;
      }
    }
  }
}

TEST_P(KernelsTest, SignBitsMatchTheSignsOfDotProducts) {
  constexpr int kPlanes = 192;
  for (const int dim : {16, 64, 128}) {
    for (const std::int64_t count : {1, 3, 4, 5, 9}) {
      CounterRandom random(2, static_cast<std::uint64_t>(dim));
      const auto x = representable_normals(random, count * dim, DType::f32);
      const auto p = representable_normals(random, std::int64_t{dim} * kPlanes, DType::f32);
      const AlignedVector<float> vectors(x.begin(), x.end()), planes(p.begin(), p.end());
      std::vector<std::uint64_t> bits(static_cast<std::size_t>(count) * kPlanes / 64, ~std::uint64_t{0});
      kernels.simhash.sign_bits(vectors.data(), count, dim, planes.data(), kPlanes, bits.data());
      for (std::int64_t v = 0; v < count; ++v) {
        for (int plane = 0; plane < kPlanes; ++plane) {
          double dot = 0;
          for (int d = 0; d < dim; ++d)
            dot += static_cast<double>(x[static_cast<std::size_t>(v * dim + d)]) *
                   p[static_cast<std::size_t>(d * kPlanes + plane)];
          if (std::abs(dot) < 1e-4) continue;  // rounding may decide
          const bool bit = (bits[static_cast<std::size_t>(v * kPlanes / 64 + plane / 64)] >> (plane % 64) & 1) != 0;
          EXPECT_EQ(bit, dot > 0) << v << " " << plane;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
