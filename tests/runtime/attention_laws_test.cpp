// Laws of attention over the two tiers: window + store = dense for any split, shape, rule and grouping of calls.
#include <tuple>

#include <gtest/gtest.h>

#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

constexpr double kTolerance = 2e-5;

Config config_for(int head_dim, int group, std::int32_t sinks, std::int32_t local) {
  Config config;
  config.shape = resolved({1, 2 * group, 2, head_dim, head_dim, 0.f, 0.f});
  config.window = {sinks, local, DType::f32};
  config.never_slower = false;
  config.num_workers = 2;
  return config;
}

/// Appends `tokens` and checks the last `queries` of them against dense attention.
void expect_dense(const Config& config, std::int64_t tokens, std::int64_t queries, const AttendOptions& options = {}) {
  Runtime runtime(config);
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 11, config.host_dtype);
  ReferenceSequence reference(shape);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(tokens);
  append(runtime, sequence, t.k, t.v);
  reference.append(t.k, t.v);
  const auto q = source.queries(queries);
  const auto attended = attend(runtime, sequence, queries, q, options);
  const auto worst = worst_error(attended, q, queries, reference, shape, options.rule);
  EXPECT_LT(worst.out, kTolerance) << tokens << " tokens, " << queries << " queries";
  EXPECT_LT(worst.lse, kTolerance) << tokens << " tokens, " << queries << " queries";
}

class Shapes : public ::testing::TestWithParam<std::tuple<int /*head_dim*/, int /*group*/>> {};

TEST_P(Shapes, WindowPlusStoreIsDense) {
  const auto [head_dim, group] = GetParam();
  for (const std::int64_t tokens : {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300}) {
    expect_dense(config_for(head_dim, group, 4, 32), tokens, std::min<std::int64_t>(tokens, 3));
  }
}

INSTANTIATE_TEST_SUITE_P(AttentionLaws, Shapes,
                         ::testing::Combine(::testing::Values(64, 80, 96, 128, 256), ::testing::Values(1, 2, 4, 8)));

class Splits : public ::testing::TestWithParam<std::tuple<int /*sinks*/, int /*local*/>> {};

TEST_P(Splits, AnySplitIsDense) {
  const auto [sinks, local] = GetParam();
  for (const std::int64_t queries : {1, 2, 70, 260}) expect_dense(config_for(64, 2, sinks, local), 260, queries);
}

INSTANTIATE_TEST_SUITE_P(AttentionLaws, Splits,
                         ::testing::Combine(::testing::Values(0, 1, 4, 65),
                                            ::testing::Values(1, 63, 64, 65, 200, 1000)));

class Types : public ::testing::TestWithParam<std::tuple<DType /*window*/, DType /*host*/>> {};

TEST_P(Types, StoredRowsAreExactlyWhatWasAppended) {
  Config config = config_for(64, 2, 4, 64);
  config.window.dtype = std::get<0>(GetParam());
  config.host_dtype = std::get<1>(GetParam());
  // Values that both formats hold exactly: bf16 values with few mantissa bits and moderate exponents.
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 5, DType::bf16);
  ReferenceSequence reference(runtime.config().shape);
  const std::uint64_t sequence = runtime.create_sequence();
  auto t = source.tokens(400);
  for (auto* values : {&t.k, &t.v}) {
    for (float& x : *values) x = f16_to_f32(f32_to_f16(std::abs(x) < 0x1p-10f ? 0.f : x));
  }
  append(runtime, sequence, t.k, t.v);
  reference.append(t.k, t.v);
  const auto q = source.queries(2);
  const auto worst = worst_error(attend(runtime, sequence, 2, q), q, 2, reference, runtime.config().shape);
  EXPECT_LT(worst.out, kTolerance);
  EXPECT_LT(worst.lse, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(AttentionLaws, Types,
                         ::testing::Combine(::testing::Values(DType::f32, DType::f16, DType::bf16),
                                            ::testing::Values(DType::f32, DType::f16, DType::bf16)));

/// Selectors that select every row, so that selected attention has to equal dense attention under every rule.
class Rules : public ::testing::TestWithParam<lsh::SelectorParams> {};

INSTANTIATE_TEST_SUITE_P(AttentionLaws, Rules,
                         ::testing::Values(lsh::SelectorParams(lsh::SelectAllParams{}),
                                           lsh::SelectorParams(lsh::TopKParams{1.0}),
                                           lsh::SelectorParams(lsh::LshParams{1, 300, 1, 7})));

TEST_P(Rules, AreHonouredInBothTiers) {
  Config config = config_for(64, 2, 4, 64);
  config.selector = GetParam();
  for (const float softcap : {0.f, 2.f}) {
    for (const std::int64_t sliding : {0, 1, 5, 100, 250, 299, 300, 1000}) {
      AttendOptions options;
      options.rule.sliding_window = sliding;
      options.rule.alibi = {0.5f, 0.1f, 0.02f, 0.f};
      options.rule.sinks = {0.f, 3.f, -100.f, 8.f};
      config.shape.softcap = softcap;
      expect_dense(config, 300, 1, options);
      expect_dense(config, 300, 130, options);
    }
  }
}

TEST(AttentionLaws, HeadDimsOfKAndVMayDiffer) {
  for (const auto& [dim_k, dim_v] : {std::pair{192, 128}, {64, 80}, {72, 40}, {1, 1}, {17, 257}}) {
    Config config = config_for(dim_k, 2, 4, 64);
    config.shape.head_dim_v = dim_v;
    expect_dense(config, 200, 5);
  }
}

TEST(AttentionLaws, TheErrorOfTheLseIsScaledByTheHostTiersShare) {
  Config config = config_for(64, 2, 4, 64);
  config.selector = lsh::LshParams{6, 40, 2, 1};
  double error[2];
  for (const bool window_dominates : {false, true}) {
    Runtime runtime(config);
    TokenSource source(runtime.config().shape, 12);
    const std::uint64_t sequence = runtime.create_sequence();
    const auto t = source.tokens(1000);
    append(runtime, sequence, t.k, t.v);
    const auto q = source.queries(1);
    auto last = source.tokens(1);
    for (std::size_t i = 0; i < last.k.size(); ++i) {  // a key along both queries of its group, or none in particular
      last.k[i] = window_dominates ? 3.f * (q[i / 64 * 128 + i % 64] + q[i / 64 * 128 + 64 + i % 64]) : last.k[i];
    }
    append(runtime, sequence, last.k, last.v);
    error[window_dominates ? 1 : 0] = attend(runtime, sequence, 1, q).stats.lse_error;
  }
  EXPECT_GT(error[0], 0.02);
  EXPECT_LT(error[1], 1e-3);
  EXPECT_GE(error[1], 0.0);
}

TEST(AttentionLaws, AHeadThatSampledNothingHasNoErrorEstimate) {
  Config config = config_for(64, 2, 4, 64);
  config.selector = lsh::LshParams{12, 2, 2, 1};
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 13);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(1000);
  append(runtime, sequence, t.k, t.v);
  const auto stats = attend(runtime, sequence, 1, source.queries(1)).stats;
  EXPECT_GT(stats.rows_host, 0);
  EXPECT_EQ(stats.lse_error, -1.0);
}

TEST(AttentionLaws, TheTwoPartsMergeToTheWhole) {
  Runtime runtime(config_for(64, 2, 4, 64));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 3);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(500);
  append(runtime, sequence, t.k, t.v);
  const auto q = source.queries(1);
  const auto whole = attend(runtime, sequence, 1, q);
  AttendOptions only_window;
  only_window.use_host = false;
  AttendOptions only_host;
  only_host.use_window = false;
  auto a = attend(runtime, sequence, 1, q, only_window);
  auto b = attend(runtime, sequence, 1, q, only_host);
  merge_state({a.out.data(), a.lse.data(), shape.num_q_heads, shape.head_dim_v},
              {b.out.data(), b.lse.data(), shape.num_q_heads, shape.head_dim_v});
  for (std::size_t i = 0; i < whole.out.size(); ++i) EXPECT_FLOAT_EQ(whole.out[i], a.out[i]);
  for (std::size_t i = 0; i < whole.lse.size(); ++i) EXPECT_FLOAT_EQ(whole.lse[i], a.lse[i]);
  EXPECT_EQ(a.stats.keys_attended + b.stats.keys_attended, whole.stats.keys_visible);
}

TEST(AttentionLaws, EmptyPartsAreEmptyAndNotNaN) {
  Runtime runtime(config_for(64, 2, 4, 64));
  TokenSource source(runtime.config().shape, 3);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(10);
  append(runtime, sequence, t.k, t.v);
  AttendOptions only_host;
  only_host.use_window = false;
  const auto attended = attend(runtime, sequence, 1, source.queries(1), only_host);
  for (const float x : attended.out) EXPECT_EQ(x, 0.f);
  for (const float x : attended.lse) EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
}

TEST(AttentionLaws, HugeLogitSpreadGivesTheRightResult) {
  Config config = config_for(64, 2, 4, 64);
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 7, DType::f32, 60.0);  // logits spread over several hundred nats
  ReferenceSequence reference(runtime.config().shape);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(700);
  append(runtime, sequence, t.k, t.v);
  reference.append(t.k, t.v);
  const auto q = source.queries(4);
  const auto worst = worst_error(attend(runtime, sequence, 4, q), q, 4, reference, runtime.config().shape);
  EXPECT_LT(worst.out, 1e-3);  // an error of 1e-7 in a logit of 500 moves its weight by 5e-5
  EXPECT_LT(worst.lse, 1e-3);
}

TEST(AttentionLaws, TheLargestMagnitudesStayFinite) {
  Config config = config_for(256, 2, 4, 64);
  config.shape.scale = kMaxScale;
  config.selector = lsh::LshParams{4, 20, 2, 1};
  Runtime runtime(config);
  const std::uint64_t sequence = runtime.create_sequence();
  const float largest = std::nextafter(kMaxMagnitude, 0.f);
  TokenSource source(runtime.config().shape, 8);
  auto t = source.tokens(500);
  auto q = source.queries(2);
  for (auto* values : {&t.k, &t.v, &q}) {
    for (float& x : *values) x = std::copysign(largest, x);
  }
  append(runtime, sequence, t.k, t.v);
  for (const bool exact : {false, true}) {
    AttendOptions options;
    options.exact = exact;
    options.rule.alibi = {kMaxMagnitude, -kMaxMagnitude, 0.f, 1.f};
    const auto attended = attend(runtime, sequence, 2, q, options);
    for (const float x : attended.out) ASSERT_TRUE(std::isfinite(x));
    for (const float x : attended.lse) ASSERT_TRUE(std::isfinite(x));
  }
}

TEST(AttentionLaws, GroupedHeadsEqualRepeatedHeads) {
  const Config grouped_config = config_for(64, 4, 4, 64);
  Config repeated_config = grouped_config;
  repeated_config.shape.num_kv_heads = 8;
  Runtime grouped(grouped_config);
  Runtime repeated(repeated_config);
  TokenSource source(grouped.config().shape, 3);
  const auto t = source.tokens(300);
  const auto repeat = [](const std::vector<float>& x) {
    std::vector<float> y;
    for (std::size_t row = 0; row < x.size() / 64; ++row) {
      for (int i = 0; i < 4; ++i)
        y.insert(y.end(), x.begin() + static_cast<long>(row) * 64, x.begin() + static_cast<long>(row + 1) * 64);
    }
    return y;
  };
  const std::uint64_t a = grouped.create_sequence();
  const std::uint64_t b = repeated.create_sequence();
  append(grouped, a, t.k, t.v);
  append(repeated, b, repeat(t.k), repeat(t.v));
  const auto q = source.queries(1);
  const auto x = attend(grouped, a, 1, q);
  const auto y = attend(repeated, b, 1, q);
  EXPECT_EQ(x.out, y.out);
  EXPECT_EQ(x.lse, y.lse);
}

}  // namespace
}  // namespace tandem::testing
