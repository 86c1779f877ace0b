// Statistics of the synthetic heads: what a selector finds hard in them has to be there, for any seed.
#include "tools/tandem/synthetic_trace.h"

#include <cmath>
#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "tools/tandem/logit_mass.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kTokens = 8192;
constexpr std::int64_t kSteps = 6;
constexpr std::int64_t kTail = 16;
constexpr std::int64_t kGroup = 4;
constexpr std::int64_t kDim = 128;

SyntheticShape shape_of(std::uint64_t seed, std::int32_t kv_heads = kNumHeadKinds) {
  SyntheticShape shape;
  shape.tokens = kTokens;
  shape.steps = kSteps;
  shape.query_tail = kTail;
  shape.num_kv_heads = kv_heads;
  shape.num_q_heads = static_cast<std::int32_t>(kv_heads * kGroup);
  shape.seed = seed;
  return shape;
}

std::vector<float> head_of(const tools::Tensor& tensor, std::int64_t head) {
  const auto all = tensor.to_f32();
  const auto size = static_cast<std::ptrdiff_t>(tensor.shape[1] * tensor.shape[2]);
  return {all.begin() + head * size, all.begin() + (head + 1) * size};
}

/// Attention weights of one query over the prompt, as probabilities.
std::vector<double> weights_of(const std::vector<float>& k, const float* q) {
  std::vector<double> weights;
  for (std::size_t t = 0; t < k.size() / kDim; ++t)
    weights.push_back(std::inner_product(q, q + kDim, k.data() + t * kDim, 0.0) / std::sqrt(double{kDim}));
  const double max = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& w : weights) sum += w = std::exp(w - max);
  for (double& w : weights) w /= sum;
  return weights;
}

/// Means over the queries of one group.
struct QueryFigures {
  double logit_sd = 0;
  double sinks = 0;          ///< their share of the mass
  double participation = 0;  ///< 1 / sum p^2 of the other keys
};

QueryFigures figures_of(const std::vector<float>& k, const tools::Tensor& queries, std::int64_t kv_head) {
  QueryFigures mean;
  const double count = static_cast<double>(kGroup * queries.shape[1]);
  for (std::int64_t h = kv_head * kGroup; h < (kv_head + 1) * kGroup; ++h) {
    const auto q = head_of(queries, h);
    for (std::int64_t i = 0; i < queries.shape[1]; ++i) {
      const auto p = weights_of(k, q.data() + i * kDim);
      const double sinks = std::accumulate(p.begin(), p.begin() + 4, 0.0);
      double sum = 0, squares = 0, p2 = 0;
      for (std::size_t t = 4; t < p.size(); ++t) p2 += p[t] * p[t] / ((1 - sinks) * (1 - sinks));
      for (std::size_t t = 68; t + 64 < p.size(); ++t) {
        sum += std::log(p[t]);
        squares += std::log(p[t]) * std::log(p[t]);
      }
      const auto rows = static_cast<double>(p.size() - 132);
      mean.logit_sd += std::sqrt(squares / rows - sum * sum / rows / rows) / count;
      mean.sinks += sinks / count;
      mean.participation += 1 / p2 / count;
    }
  }
  return mean;
}

class Kinds : public ::testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(SyntheticTrace, Kinds, ::testing::Values(1, 7));

TEST_P(Kinds, QueriesSpreadAsTheirKindSaysAndSinksTakeTheirShare) {
  const SyntheticTrace trace(shape_of(GetParam()), 2);
  const auto layer = trace.layer();
  std::vector<double> participation;
  for (std::int64_t h = 0; h < kNumHeadKinds; ++h) {
    const auto kind = static_cast<HeadKind>(h);
    SCOPED_TRACE(to_string(kind));
    const auto k = head_of(layer.k, h);
    const auto decode = figures_of(k, layer.dec_q, h);
    const auto tail = figures_of(k, layer.q_tail, h);
    for (const auto& figures : {decode, tail}) {
      EXPECT_NEAR(figures.logit_sd, logit_sd(kind), 0.06 * logit_sd(kind));
      EXPECT_NEAR(figures.sinks, 0.45, 0.06);
    }
    participation.push_back(decode.participation);
  }
  const auto of = [&](HeadKind kind) { return participation[static_cast<std::size_t>(kind)]; };
  EXPECT_GT(of(HeadKind::diffuse), kTokens / 16.0);
  EXPECT_GT(of(HeadKind::diffuse), 2 * of(HeadKind::medium));
  EXPECT_GT(of(HeadKind::medium), of(HeadKind::peaked));
  EXPECT_LT(of(HeadKind::peaked), 200);
  EXPECT_LT(of(HeadKind::retrieval), 100);  // although its logits spread less than those of a medium head
}

TEST_P(Kinds, KeysHaveLowRankHugeChannelsAndLocalTopics) {
  const SyntheticTrace trace(shape_of(GetParam()), 2);
  const auto layer = trace.layer();
  for (std::int64_t h = 0; h < kNumHeadKinds; ++h) {
    SCOPED_TRACE(to_string(static_cast<HeadKind>(h)));
    const auto k = head_of(layer.k, h);
    MomentSums sums(kDim);
    for (std::int64_t t = 68; t < kTokens; ++t) sums.add(k.data() + t * kDim);
    const auto moments = sums.moments();
    double total = 0, squares = 0;
    for (std::int64_t d = 0; d < kDim; ++d) total += moments.covariance[static_cast<std::size_t>(d * kDim + d)];
    for (const double x : moments.covariance) squares += x * x;
    const double effective_rank = total * total / squares;
    EXPECT_GT(effective_rank, 2.5);
    EXPECT_LT(effective_rank, 90);
    const double mean_norm =
        std::sqrt(std::inner_product(moments.mean.begin(), moments.mean.end(), moments.mean.begin(), 0.0));
    EXPECT_GT(mean_norm, 5);  // a large part of a key is what all keys share
    EXPECT_LT(mean_norm, 18);
    double next = 0;  // covariance of neighbours
    for (std::int64_t t = 68; t + 1 < kTokens; ++t) {
      for (std::int64_t d = 0; d < kDim; ++d)
        next += (k[static_cast<std::size_t>(t * kDim + d)] - moments.mean[static_cast<std::size_t>(d)]) *
                (k[static_cast<std::size_t>((t + 1) * kDim + d)] - moments.mean[static_cast<std::size_t>(d)]);
    }
    EXPECT_GT(next / static_cast<double>(kTokens - 69) / total, 0.3);
  }
}

TEST(SyntheticTrace, SinksHaveTinyValues) {
  const SyntheticTrace trace(shape_of(3, 1), 1);
  const auto v = head_of(trace.layer().v, 0);
  const auto norm = [&](std::int64_t t) {
    return std::sqrt(std::inner_product(v.data() + t * kDim, v.data() + (t + 1) * kDim, v.data() + t * kDim, 0.0));
  };
  for (std::int64_t t = 0; t < 4; ++t) EXPECT_LT(norm(t), 0.5);
  EXPECT_GT(norm(4), 8);
}

bool same(const tools::Tensor& a, const tools::Tensor& b) {
  return a.shape == b.shape &&
         std::memcmp(a.data, b.data, static_cast<std::size_t>(a.elements()) * bytes_of(a.dtype)) == 0;
}

TEST(SyntheticTrace, DependsOnTheSeedAndNotOnTheThreads) {
  auto shape = shape_of(5, 2);
  shape.kind = HeadKind::retrieval;
  shape.tokens = 3000;
  const SyntheticTrace one(shape, 1);
  const SyntheticTrace three(shape, 3);
  shape.seed = 6;
  const SyntheticTrace other(shape, 3);
  for (const auto member : {&tools::TraceLayer::k, &tools::TraceLayer::v, &tools::TraceLayer::q_tail,
                            &tools::TraceLayer::dec_q, &tools::TraceLayer::dec_k, &tools::TraceLayer::dec_v}) {
    EXPECT_TRUE(same(one.layer().*member, three.layer().*member));
    EXPECT_FALSE(same(one.layer().*member, other.layer().*member));
  }
}

TEST(SyntheticTrace, AnyShapeIsFinite) {
  for (const std::int64_t tokens : {1, 2, 63, 255, 256, 257, 1025}) {
    for (const std::int32_t dim : {2, 6, 64, 130}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens of " << dim);
      auto shape = shape_of(2);
      shape.tokens = tokens;
      shape.head_dim = dim;
      shape.dtype = DType::f16;
      const SyntheticTrace trace(shape, 2);
      const auto layer = trace.layer();
      EXPECT_EQ(layer.q_tail.shape[1], std::min(tokens, kTail));
      for (const auto* tensor : {&layer.k, &layer.v, &layer.q_tail, &layer.dec_q, &layer.dec_k, &layer.dec_v})
        EXPECT_TRUE(all_finite(tensor->dtype, tensor->data, tensor->elements()));
    }
  }
}

TEST(SmallMatrix, SolvesAndRefuses) {
  const std::vector<double> a = {4, 2, 0.5, 2, 5, 1, 0.5, 1, 3};
  const std::vector<double> x = {1, -2, 3, 0.5, 2, 7};
  std::vector<double> b(6, 0.0);
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t c = 0; c < 2; ++c)
      for (std::size_t k = 0; k < 3; ++k) b[i * 2 + c] += a[i * 3 + k] * x[k * 2 + c];
  solve_spd(a, 3, b, 2);
  for (std::size_t i = 0; i < b.size(); ++i) EXPECT_NEAR(b[i], x[i], 1e-12);
  EXPECT_THROW(solve_spd({1, 2, 2, 1}, 2, b, 1), std::runtime_error);
}

TEST(LogitMass, IsALogSumExp) {
  const std::vector<float> q = {1, 2, -300, 0.5f};
  std::vector<float> keys;
  for (int i = 0; i < 75; ++i) keys.insert(keys.end(), {static_cast<float>(i % 7), static_cast<float>(i % 11) * 0.1f});
  LogitMass mass(q.data(), 2, 2, 0.5f);
  mass.add(keys.data(), 40);
  mass.add(keys.data() + 80, 35);
  for (std::int64_t i = 0; i < 2; ++i) {
    double sum = 0;
    for (std::size_t t = 0; t < 75; ++t)
      sum += std::exp(0.5 * (double{q[static_cast<std::size_t>(2 * i)]} * keys[2 * t] +
                             double{q[static_cast<std::size_t>(2 * i + 1)]} * keys[2 * t + 1]));
    EXPECT_NEAR(mass.lse(i), std::log(sum), 1e-5);
  }
}

}  // namespace
}  // namespace tandem::cli
