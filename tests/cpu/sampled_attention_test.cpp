// Sampled attention against the oracle and against its own formulas in double, over instruction sets, types and shapes.
#include "cpu/sampled_attention.h"

#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/sparse_attention.h"
#include "tests/support/attention_head.h"

namespace tandem::cpu {
namespace {

using testing::AttentionHead;
using testing::relative_error;
constexpr std::int64_t kRows = 300;

/// What one call writes.
struct Outcome {
  Outcome(int group, int dim_v)
      : out(static_cast<std::size_t>(group * dim_v), 7.f),
        lse(static_cast<std::size_t>(group), 7.f),
        weight(static_cast<std::size_t>(group), 7.f),
        square(static_cast<std::size_t>(group), 7.f),
        value(out) {}
  [[nodiscard]] PartialAttention partial(const AttentionHead& head) {
    return {out.data(), lse.data(), head.shape.num_q_heads, head.shape.head_dim_v};
  }
  [[nodiscard]] SampleSpread spread() { return {weight.data(), value.data(), square.data()}; }
  std::vector<float> out, lse, weight, square, value;
};

Outcome attend(Isa isa, const AttentionHead& head, const SampledRows& sample, float softcap = 0.f) {
  const std::int64_t position = kRows;
  const QueryBlock query{head.scaled.data(), &position, 1, head.shape.num_q_heads};
  Outcome outcome(head.shape.num_q_heads, head.shape.head_dim_v);
  AttentionScratch scratch;
  const LogitRule logits{softcap, nullptr, 0};
  sampled_attention(kernels_for(isa), head.fixture.store, 0, sample, query, logits, scratch, outcome.partial(head),
                    outcome.spread());
  return outcome;
}

/// `count` distinct rows; every fourth is certain, the others have probabilities down to 1e-3.
SampledRows random_sample(std::size_t count, std::uint64_t seed) {
  CounterRandom random(seed, 17);
  SampledRows sample;
  for (std::int64_t r = 0; r < kRows && sample.rows.size() < count; ++r) {
    if (count < 200 && random.uniform() < 0.3) continue;
    sample.rows.push_back(static_cast<std::uint32_t>(r));
    sample.inclusion.push_back(r % 4 == 0 ? 1.f : static_cast<float>(std::pow(10.0, -3 * random.uniform())));
  }
  return sample;
}

/// -ln pi per row of the store; -inf for rows that were not drawn.
std::vector<double> biases_of(const SampledRows& sample) {
  std::vector<double> biases(kRows, -INFINITY);
  for (std::size_t i = 0; i < sample.rows.size(); ++i)
    biases[sample.rows[i]] = -std::log(static_cast<double>(sample.inclusion[i]));
  return biases;
}

/// The spread by its definition, given the exact lse.
struct ExactSpread {
  double weight = 0, square = 0;
  std::vector<double> value;
};
ExactSpread exact_spread(const AttentionHead& head, int h, const SampledRows& sample, double lse, double softcap) {
  ExactSpread spread;
  spread.value.assign(static_cast<std::size_t>(head.shape.head_dim_v), 0.0);
  for (std::size_t i = 0; i < sample.rows.size(); ++i) {
    const double plain = head.logit(h, sample.rows[i]);
    const double pi = sample.inclusion[i];
    const double logit = softcap > 0 ? softcap * std::tanh(plain / softcap) : plain;
    const double a = std::exp(logit - std::log(pi) - lse);
    const double b = (1 - pi) * a * a;
    spread.weight += b;
    for (std::size_t d = 0; d < spread.value.size(); ++d) {
      const double v = head.value(sample.rows[i])[d];
      spread.value[d] += b * v;
      spread.square += b * v * v;
    }
  }
  return spread;
}

class SampledAttention : public ::testing::TestWithParam<std::tuple<Isa, std::pair<int, int> /*dims of K, V*/, DType>> {
};

INSTANTIATE_TEST_SUITE_P(Isas, SampledAttention,
                         ::testing::Combine(::testing::ValuesIn(available_isas()),
                                            ::testing::Values(std::pair{64, 64}, std::pair{80, 80}, std::pair{96, 96},
                                                              std::pair{128, 128}, std::pair{256, 256},
                                                              std::pair{192, 128}, std::pair{72, 40}),
                                            ::testing::Values(DType::f32, DType::f16, DType::bf16)));

TEST_P(SampledAttention, MatchesReferenceAndStatesItsSpread) {
  const auto [isa, dims, dtype] = GetParam();
  for (const int group : {1, 4, 7}) {
    const AttentionHead head(dims.first, dims.second, group, dtype, kRows);
    for (const std::size_t size : {0, 1, 63, 64, 65, 200}) {
      const SampledRows sample = random_sample(size, size);
      ASSERT_EQ(sample.rows.size(), size);
      const float softcap = size % 2 == 0 ? 0.f : 1.5f;
      const Outcome outcome = attend(isa, head, sample, softcap);
      for (int h = 0; h < group; ++h) {
        const auto i = static_cast<std::size_t>(h);
        const auto expected = head.expected(h, biases_of(sample), softcap);
        const float* out = outcome.out.data() + h * dims.second;
        const float* value = outcome.value.data() + h * dims.second;
        EXPECT_LT(relative_error(out, expected.out), 2e-5) << size;
        if (size == 0) {
          EXPECT_EQ(outcome.lse[i], expected.lse);
          EXPECT_EQ(outcome.weight[i], 0.f);
          EXPECT_EQ(outcome.square[i], 0.f);
          for (int d = 0; d < dims.second; ++d) EXPECT_EQ(value[d], 0.f);
          continue;
        }
        EXPECT_NEAR(outcome.lse[i], expected.lse, 2e-5) << size;
        const ExactSpread exact = exact_spread(head, h, sample, expected.lse, softcap);
        EXPECT_NEAR(outcome.weight[i], exact.weight, 1e-4 * exact.weight + 1e-7) << size;
        EXPECT_NEAR(outcome.square[i], exact.square, 1e-4 * exact.square + 1e-7) << size;
        const double scale = std::sqrt(exact.weight * exact.square) + 1e-7;
        for (int d = 0; d < dims.second; ++d)
          EXPECT_NEAR(value[d], exact.value[static_cast<std::size_t>(d)], 1e-4 * scale);
      }
    }
  }
}

TEST_P(SampledAttention, CertainRowsAreSparseAttentionWithoutSpread) {
  const auto [isa, dims, dtype] = GetParam();
  const AttentionHead head(dims.first, dims.second, 4, dtype, kRows);
  for (const std::size_t size : {0, 1, 63, 64, 65, 200}) {
    SampledRows sample = random_sample(size, size);
    std::fill(sample.inclusion.begin(), sample.inclusion.end(), 1.f);
    Outcome sampled = attend(isa, head, sample);
    Selection selection;
    selection.rows = sample.rows;  // no mask: every head uses every row
    const std::int64_t position = kRows;
    Outcome sparse(4, dims.second);
    AttentionScratch scratch;
    sparse_attention(kernels_for(isa), head.fixture.store, 0, selection, {head.scaled.data(), &position, 1, 4}, {},
                     scratch, sparse.partial(head), sparse.spread());
    EXPECT_EQ(sampled.out, sparse.out);
    EXPECT_EQ(sampled.lse, sparse.lse);
    for (auto* o : {&sampled, &sparse}) {
      for (const auto* zeros : {&o->weight, &o->square, &o->value})
        EXPECT_EQ(*zeros, std::vector<float>(zeros->size()));
    }
    selection.head_mask.assign(size, 0xf);
    Outcome masked(4, dims.second);
    sparse_attention(kernels_for(isa), head.fixture.store, 0, selection, {head.scaled.data(), &position, 1, 4}, {},
                     scratch, masked.partial(head), masked.spread());
    EXPECT_EQ(masked.out, sparse.out);
    EXPECT_EQ(masked.lse, sparse.lse);
  }
}

class SampledAttentionOfIsa : public ::testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isas, SampledAttentionOfIsa, ::testing::ValuesIn(available_isas()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

/// Draws rows independently with probability inclusion[r].
SampledRows draw(const std::vector<float>& inclusion, std::uint64_t seed) {
  CounterRandom random(seed, 23);
  SampledRows sample;
  for (std::size_t r = 0; r < inclusion.size(); ++r) {
    if (random.uniform() >= static_cast<double>(inclusion[r])) continue;
    sample.rows.push_back(static_cast<std::uint32_t>(r));
    sample.inclusion.push_back(inclusion[r]);
  }
  return sample;
}

TEST_P(SampledAttentionOfIsa, DenominatorIsUnbiasedAndItsSpreadIsRight) {
  const AttentionHead head(64, 64, 2, DType::bf16, kRows);
  std::vector<float> inclusion;
  for (std::int64_t r = 0; r < kRows; ++r)
    inclusion.push_back(r % 7 == 0 ? 1.f : 0.1f + 0.002f * static_cast<float>(r));
  constexpr int kSeeds = 400;
  double exact[2], sum[2] = {}, squares[2] = {}, stated[2] = {};
  for (int h = 0; h < 2; ++h) exact[h] = head.expected(h, {}).lse;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const Outcome outcome = attend(GetParam(), head, draw(inclusion, static_cast<std::uint64_t>(seed)));
    for (std::size_t h = 0; h < 2; ++h) {
      const double z = std::exp(outcome.lse[h] - exact[h]);
      sum[h] += z;
      squares[h] += z * z;
      stated[h] += z * z * outcome.weight[h];
    }
  }
  for (int h = 0; h < 2; ++h) {
    const double mean = sum[h] / kSeeds;
    const double variance = squares[h] / kSeeds - mean * mean;
    EXPECT_LT(std::abs(mean - 1), 4 * std::sqrt(variance / kSeeds));
    EXPECT_LT(std::sqrt(variance / kSeeds), 0.01);  // else the bound above would say nothing
    EXPECT_NEAR(stated[h] / kSeeds / variance, 1.0, 0.25);
  }
}

TEST_P(SampledAttentionOfIsa, ExtremesStayFinite) {
  for (const auto& [key_scale, value_scale] : {std::pair{60.0, 1.0}, {1.0, 2e15}, {60.0, 2e15}, {0.0, 0.0}}) {
    const AttentionHead head(128, 256, 3, DType::bf16, kRows, key_scale, value_scale);  // logits over 500 nats apart
    SampledRows sample = random_sample(200, 5);
    for (std::size_t i = 0; i < sample.inclusion.size(); i += 3) sample.inclusion[i] = 1e-30f;
    const Outcome outcome = attend(GetParam(), head, sample);
    for (const auto* values : {&outcome.out, &outcome.lse, &outcome.weight, &outcome.square, &outcome.value}) {
      for (const float x : *values) ASSERT_TRUE(std::isfinite(x)) << key_scale << " " << value_scale;
    }
    for (int h = 0; h < 3; ++h) {
      const auto i = static_cast<std::size_t>(h);
      const double lse = head.expected(h, biases_of(sample)).lse;
      const ExactSpread exact = exact_spread(head, h, sample, lse, 0.0);
      EXPECT_NEAR(outcome.lse[i], lse, 1e-3);
      EXPECT_NEAR(outcome.weight[i], exact.weight, 2e-3 * exact.weight + 1e-7);
      EXPECT_NEAR(outcome.square[i], exact.square, 2e-3 * exact.square + 1e-7 * value_scale * value_scale);
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
