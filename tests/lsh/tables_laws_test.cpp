// Statistical laws of sampling by LshTables; every bound is four standard errors.
#include <cmath>

#include <gtest/gtest.h>

#include "cpu/sparse_attention.h"
#include "tests/support/index_fixture.h"
#include "tests/support/moments.h"
#include "tests/support/repetitions.h"

namespace tandem::lsh {
namespace {

using testing::IndexFixture;
using testing::Moments;
using testing::repetitions;

/// E over the seeds of sum 1/u e^s equals the softmax denominator over all rows, and likewise its value-weighted sum.
TEST(LshTablesLaws, DenominatorAndNumeratorAreUnbiasedOverAThousandSeeds) {
  constexpr int kRows = 512, kSeeds = repetitions(1000);
  IndexFixture fixture(64, 2, 4);
  fixture.keys = fixture.random_keys(kRows, 0.2);
  fixture.rows.append(fixture.keys, fixture.random_keys(kRows, 0.5));
  const auto q = fixture.random_queries();
  std::vector<double> exact(2, 0.0);
  std::vector<std::vector<double>> numerator(2, std::vector<double>(64, 0.0));
  std::vector<float> value(static_cast<std::size_t>(fixture.rows.store.layout().padded_v));
  for (std::size_t h = 0; h < 2; ++h) {
    for (int r = 0; r < kRows; ++r) {
      double dot = 0;
      for (int d = 0; d < 64; ++d)
        dot += static_cast<double>(q[h * 64 + static_cast<std::size_t>(d)]) *
               fixture.keys[static_cast<std::size_t>(r * 64 + d)];
      const double weight = std::exp(dot * fixture.shape.scale);
      exact[h] += weight;
      cpu::load_value(fixture.rows.store.layout(), fixture.rows.store.row(r), value.data());
      for (std::size_t d = 0; d < 64; ++d) numerator[h][d] += weight * value[d];
    }
  }
  constexpr auto kGaussian = cpu::HashPlanes::gaussian, kHadamard = cpu::HashPlanes::hadamard;
  for (const auto& [bits, tables, m, planes] : {std::tuple{5, 60, 2, kGaussian},
                                                {8, 75, 2, kGaussian},
                                                {4, 20, 1, kGaussian},
                                                {5, 60, 2, kHadamard},
                                                {8, 75, 2, kHadamard},
                                                {4, 20, 1, kHadamard}}) {
    // The weights take tables for independent. Tables of shared bits are not, which biases the sums by this much.
    const double bias = planes == kGaussian ? 0.0 : 0.01;
    Moments ratio[2];
    Moments along_numerator[2];  // the estimated numerator's part along the exact one, in its units
    Moments stated_variance[2];
    cpu::AttentionScratch scratch;
    std::vector<float> out(2 * 64), lse(2), variance(2);
    for (int seed = 0; seed < kSeeds; ++seed) {
      const Selector selector(LshParams{bits, tables, m, static_cast<std::uint64_t>(seed), planes}, 64);
      const auto index = fixture.indexed(selector);
      const auto& selection = fixture.select(index, q);
      cpu::sparse_attention(fixture.kernels, fixture.rows.store, 0, selection, fixture.query, {}, scratch,
                            {out.data(), lse.data(), 2, 64}, {variance.data()});
      for (std::size_t h = 0; h < 2; ++h) {
        const double z = std::exp(static_cast<double>(lse[h])) / exact[h];  // an empty selection is an estimate of zero
        ratio[h].add(z);
        double product = 0;
        double square = 0;
        for (std::size_t d = 0; d < 64; ++d) {
          product += z * exact[h] * out[h * 64 + d] * numerator[h][d];
          square += numerator[h][d] * numerator[h][d];
        }
        along_numerator[h].add(product / square);
        stated_variance[h].add(z * z * variance[h]);
      }
    }
    for (const Moments* r = ratio; r < ratio + 2; ++r) {
      EXPECT_LT(std::abs(r->mean() - 1), 4.0 * r->standard_error() + bias)
          << bits << "," << tables << "," << m << ": " << r->mean();
      EXPECT_LT(r->standard_error(), 0.01 * std::sqrt(1000.0 / kSeeds));  // else the bound above would say nothing
    }
    for (const Moments& along : along_numerator) {
      EXPECT_LT(std::abs(along.mean() - 1), 4.0 * along.standard_error() + bias)
          << bits << "," << tables << "," << m << ": " << along.mean() << ", " << along.standard_error();
      EXPECT_LT(along.standard_error(), 0.01 * std::sqrt(1000.0 / kSeeds));
    }
    // The stated variance treats rows as independent, though they share tables: right in size, not to the last digit.
    for (int h = 0; h < 2; ++h) {
      EXPECT_GT(stated_variance[h].mean(), 0.2 * ratio[h].variance());
      EXPECT_LT(stated_variance[h].mean(), 5.0 * ratio[h].variance());
    }
  }
}

/// The heads of a group share one gather, but each uses only what it found: a group's head equals the head alone.
TEST(LshTablesLaws, HeadsOfAGroupDoNotInfluenceEachOther) {
  IndexFixture group(64, 4, 8);
  group.append(group.random_keys(600));
  const auto q = group.random_queries();
  const Selector selector(LshParams{5, 50, 2, 1}, 64);
  const auto index = group.indexed(selector);
  const auto grouped = group.select(index, q);
  for (int h = 0; h < 4; ++h) {
    IndexFixture alone(64, 1, 8);
    alone.append(group.keys);
    const std::vector<float> one(q.begin() + h * 64, q.begin() + (h + 1) * 64);
    const auto& single = alone.select(alone.indexed(selector), one);
    std::vector<std::uint32_t> rows;
    for (std::size_t i = 0; i < grouped.rows.size(); ++i) {
      if ((grouped.head_mask[i] >> h & 1) != 0) rows.push_back(grouped.rows[i]);
    }
    EXPECT_EQ(rows, single.rows);
  }
}

/// A row is found as often as its weight says: frequency over seeds against u, row by row.
TEST(LshTablesLaws, RowsAreFoundWithTheProbabilityThatWeightsThem) {
  constexpr int kRows = 300, kSeeds = 500;
  IndexFixture fixture(64, 1, 5);
  fixture.append(fixture.random_keys(kRows, 0.0));
  const auto q = fixture.random_queries();
  std::vector<int> found(kRows, 0);
  std::vector<double> u(kRows);
  for (int seed = 0; seed < kSeeds; ++seed) {
    const Selector selector(LshParams{4, 30, 2, static_cast<std::uint64_t>(seed), cpu::HashPlanes::gaussian}, 64);
    const auto index = fixture.indexed(selector);
    const auto& selection = fixture.select(index, q);
    for (const std::uint32_t r : selection.rows) ++found[r];
    for (std::size_t r = 0; seed == 0 && r < kRows; ++r) {
      double dot = 0;
      for (std::size_t d = 0; d < 64; ++d) dot += static_cast<double>(q[d]) * fixture.keys[r * 64 + d];
      const auto& rule = *selection.weights;
      const double cosine =
          (dot * fixture.shape.scale - rule.query_offsets[0]) * rule.inverse_norms[r] * rule.inverse_query_norms[0];
      const double x = std::pow(1 - std::acos(cosine) / M_PI, 4);
      u[r] = 1 - std::pow(1 - x, 29) * (1 + 29 * x);
    }
  }
  int outside = 0;
  for (std::size_t r = 0; r < kRows; ++r) {
    const double sigma = std::sqrt(u[r] * (1 - u[r]) / kSeeds);
    outside += std::abs(found[r] / double{kSeeds} - u[r]) > 3 * sigma + 1e-9 ? 1 : 0;
  }
  EXPECT_LE(outside, 6);  // of 300 rows, 0.27 % should lie beyond three standard errors
}

}  // namespace
}  // namespace tandem::lsh
