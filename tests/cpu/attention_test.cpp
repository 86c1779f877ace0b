// Dense and sparse attention of one KV head against the naive oracle, over instruction sets, shapes and lengths.
#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/codec/simhash.h"
#include "cpu/dense_attention.h"
#include "cpu/sparse_attention.h"
#include "tests/support/attention_head.h"

namespace tandem::cpu {
namespace {

using testing::relative_error;
using Head = testing::AttentionHead;

class Attention : public ::testing::TestWithParam<std::tuple<Isa, int /*head_dim*/, int /*group*/, DType>> {};

INSTANTIATE_TEST_SUITE_P(Isas, Attention,
                         ::testing::Combine(::testing::ValuesIn(available_isas()),
                                            ::testing::Values(64, 80, 96, 128, 256), ::testing::Values(1, 2, 4, 8),
                                            ::testing::Values(DType::f32, DType::bf16)));

TEST_P(Attention, DenseMatchesReferenceAtEveryLength) {
  const auto [isa, head_dim, group, dtype] = GetParam();
  for (const std::int64_t rows : {0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129}) {
    Head head(head_dim, group, dtype, rows);
    const std::int64_t position = rows + 10;
    const QueryBlock queries{head.scaled.data(), &position, 1, group};
    std::vector<float> out(static_cast<std::size_t>(group * head_dim), 7.f), lse(static_cast<std::size_t>(group), 7.f);
    AttentionScratch scratch;
    EXPECT_EQ(dense_attention(kernels_for(isa), head.fixture.store, 0, queries, {}, scratch,
                              {out.data(), lse.data(), group, head_dim}),
              rows);
    for (int h = 0; h < group; ++h) {
      const auto expected = head.expected(h, {});
      EXPECT_LT(relative_error(out.data() + h * head_dim, expected.out), 1e-5) << rows;
      if (rows == 0) {
        EXPECT_EQ(lse[static_cast<std::size_t>(h)], expected.lse);
      } else {
        EXPECT_NEAR(lse[static_cast<std::size_t>(h)], expected.lse, 1e-5) << rows;
      }
    }
  }
}

TEST_P(Attention, SparseUsesEachRowForItsHeadsOnlyAndWeightsIt) {
  const auto [isa, head_dim, group, dtype] = GetParam();
  constexpr std::int64_t kRows = 300;
  Head head(head_dim, group, dtype, kRows);
  // Weights by the angle to keys centred at zero: the rule's own inputs, computed here in double.
  std::vector<float> inverse_norms(kRows), offsets(static_cast<std::size_t>(group), 0.f),
      inverse_queries(static_cast<std::size_t>(group));
  for (std::int64_t r = 0; r < kRows; ++r) {
    double square = 0;
    for (int d = 0; d < head_dim; ++d) square += std::pow(head.k[static_cast<std::size_t>(r * head_dim + d)], 2);
    inverse_norms[static_cast<std::size_t>(r)] = static_cast<float>(1 / std::sqrt(square));
  }
  for (int h = 0; h < group; ++h) {
    double square = 0;
    for (int d = 0; d < head_dim; ++d)
      square += std::pow(head.q[static_cast<std::size_t>(h * head_dim + d)] * head.shape.scale, 2);
    inverse_queries[static_cast<std::size_t>(h)] = static_cast<float>(1 / std::sqrt(square));
  }
  for (const std::size_t selected : {0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 200}) {
    CounterRandom random(selected, 3);
    Selection selection;
    std::vector<std::vector<double>> biases(static_cast<std::size_t>(group), std::vector<double>(kRows, -INFINITY));
    for (std::int64_t r = 0; r < kRows && selection.rows.size() < selected; ++r) {
      if (selected < 200 && random.uniform() < 0.5) continue;
      const std::uint64_t mask = random.below(std::uint64_t{1} << group);
      selection.rows.push_back(static_cast<std::uint32_t>(r));
      selection.head_mask.push_back(mask);
      for (int h = 0; h < group; ++h) {
        if ((mask >> h & 1) == 0) continue;
        double dot = 0;
        for (int d = 0; d < head_dim; ++d)
          dot += static_cast<double>(head.q[static_cast<std::size_t>(h * head_dim + d)]) *
                 head.k[static_cast<std::size_t>(r * head_dim + d)];
        const double cosine = dot * head.shape.scale * inverse_norms[static_cast<std::size_t>(r)] *
                              inverse_queries[static_cast<std::size_t>(h)];
        const double p = 1 - std::acos(std::clamp(cosine, -1.0, 1.0)) / M_PI;
        const double x = p * p;
        biases[static_cast<std::size_t>(h)][static_cast<std::size_t>(r)] =
            -std::log(1 - std::pow(1 - x, 39) * (1 + 39 * x));  // K 2, L 40, m 2
      }
    }
    selection.weights =
        CollisionRule{collision_weight(2, 40, 2), inverse_norms.data(), offsets.data(), inverse_queries.data()};
    const std::int64_t position = kRows;
    const QueryBlock query{head.scaled.data(), &position, 1, group};
    std::vector<float> out(static_cast<std::size_t>(group * head_dim)), lse(static_cast<std::size_t>(group)),
        variance(static_cast<std::size_t>(group));
    AttentionScratch scratch;
    const LogitRule logits{selected % 2 == 0 ? 0.f : 1.5f, nullptr, 0};  // the angle is that of the uncapped score
    sparse_attention(kernels_for(isa), head.fixture.store, 0, selection, query, logits, scratch,
                     {out.data(), lse.data(), group, head_dim}, {variance.data()});
    for (int h = 0; h < group; ++h) {
      const auto expected = head.expected(h, biases[static_cast<std::size_t>(h)], logits.softcap);
      EXPECT_LT(relative_error(out.data() + h * head_dim, expected.out), 2e-5) << selected;
      if (std::isinf(expected.lse)) {
        EXPECT_EQ(lse[static_cast<std::size_t>(h)], expected.lse);
      } else {
        EXPECT_NEAR(lse[static_cast<std::size_t>(h)], expected.lse, 2e-5) << selected;
        double exact_variance = 0;
        for (std::int64_t r = 0; r < kRows; ++r) {
          const double bias = biases[static_cast<std::size_t>(h)][static_cast<std::size_t>(r)];
          if (std::isinf(bias)) continue;
          double dot = 0;
          for (int d = 0; d < head_dim; ++d)
            dot += static_cast<double>(head.q[static_cast<std::size_t>(h * head_dim + d)]) *
                   head.k[static_cast<std::size_t>(r * head_dim + d)];
          const double plain = dot * head.shape.scale;
          const double logit = logits.softcap > 0 ? logits.softcap * std::tanh(plain / logits.softcap) : plain;
          const double a = std::exp(logit + bias - expected.lse);
          exact_variance += (1 - std::exp(-bias)) * a * a;
        }
        EXPECT_NEAR(variance[static_cast<std::size_t>(h)], exact_variance, 1e-4 * exact_variance + 1e-7) << selected;
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
