// Laws that hold whatever a window keeps: with a host tier nothing is lost, and nothing is counted twice.
#include <gtest/gtest.h>

#include "tests/support/codecs.h"
#include "tests/support/deferred_device.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

struct Policy {
  const char* name;
  void (*set)(gpu::WindowParams&);
};

const Policy kPolicies[] = {
    {"latest", [](gpu::WindowParams&) {}},
    {"heavy_hitters", [](gpu::WindowParams& w) { w.policy = gpu::HeavyHitters{40}, w.page_tokens = 8; }},
    {"heavy_hitters_one_by_one", [](gpu::WindowParams& w) { w.policy = gpu::HeavyHitters{70}, w.page_tokens = 1; }},
    {"threshold_of_attention",
     [](gpu::WindowParams& w) { w.policy = gpu::Threshold{1.f, 50, gpu::ScoreSource::attention}; }},
    {"threshold_of_given_scores",
     [](gpu::WindowParams& w) { w.policy = gpu::Threshold{0.5f, 200, gpu::ScoreSource::external}, w.page_tokens = 5; }},
};

Config config_with(const Policy& policy, const lsh::SelectorParams& selector) {
  Config config;
  config.shape = resolved({1, 4, 2, 64, 64, 0.f, 0.f});
  config.window = {4, 32, DType::f32};
  policy.set(config.window);
  config.selector = selector;
  config.never_slower = false;
  config.num_workers = 2;
  return config;
}

PolicyInput input_for(const Config& config, std::int64_t tokens, CounterRandom& random) {
  PolicyInput input;
  if (keep_rule(config.window.policy).scores != gpu::ScoreSource::external) return input;
  for (std::int64_t i = 0; i < tokens * config.shape.num_kv_heads; ++i)
    input.keep.push_back(static_cast<float>(random.normal()) + static_cast<float>(i % 2));
  return input;
}

/// A selector and what its results may be off by where all rows are taken.
struct Selecting {
  const char* name;
  lsh::SelectorParams params;
  double error;
};

const Selecting kSelectors[] = {
    {"all", lsh::SelectAllParams{}, 2e-5},
    {"topk", lsh::TopKParams{1.0}, 2e-5},
    {"lsh", lsh::LshParams{1, 100, 1, 5}, 1e-3},  // every row collides, with a probability of almost 1
};

class WindowPolicies : public ::testing::TestWithParam<std::tuple<Policy, Selecting, gpu::DeviceKind>> {};

INSTANTIATE_TEST_SUITE_P(Dense, WindowPolicies,
                         ::testing::Combine(::testing::ValuesIn(kPolicies), ::testing::ValuesIn(kSelectors),
                                            ::testing::Values(gpu::DeviceKind::host, gpu::DeviceKind::deferred)),
                         [](const auto& test) {
                           return concat(std::get<0>(test.param).name, "_", std::get<1>(test.param).name, "_",
                                         gpu::to_string(std::get<2>(test.param)));
                         });

TEST_P(WindowPolicies, WindowAndHostTierTogetherAreDenseAttention) {
  const auto& [policy, selecting, device] = GetParam();
  Runtime runtime(config_with(policy, selecting.params),
                  gpu::device_maker(device));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 81);
  CounterRandom random(82, 0);
  ReferenceSequence reference(shape);
  const std::uint64_t s = runtime.create_sequence();
  const bool keeps = keep_rule(runtime.config().window.policy).scores != gpu::ScoreSource::none;
  for (int i = 0; i < 16; ++i) {
    for (const std::int64_t chunk : {std::int64_t{32}, std::int64_t{1}}) {
      const auto t = source.tokens(chunk);
      EXPECT_EQ(append(runtime, s, t.k, t.v, 0, input_for(runtime.config(), chunk, random)).rows_dropped, 0);
      reference.append(t.k, t.v);
      const auto q = source.queries(chunk);
      const Attended attended = attend(runtime, s, chunk, q);
      ASSERT_LT(worst_error(attended, q, chunk, reference, shape).out, selecting.error) << reference.length();
      EXPECT_EQ(attended.stats.rows_gathered, attended.stats.rows_host);
      EXPECT_EQ(attended.stats.keys_attended, attended.stats.keys_visible);
    }
  }
  const SequenceInfo info = runtime.query_sequence(s, 0);
  EXPECT_EQ(info.dropped_rows, 0);
  EXPECT_GT(info.host_rows, 0);
  if (keeps) {
    EXPECT_GT(info.window_entries, 2 * (4 + 32 + runtime.config().window.page_tokens));
  }
}

TEST_P(WindowPolicies, MasksHideKeptTokensLikeOthers) {
  const auto& [policy, selecting, device] = GetParam();
  Runtime runtime(config_with(policy, selecting.params),
                  gpu::device_maker(device));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 83);
  CounterRandom random(84, 0);
  ReferenceSequence reference(shape);
  const std::uint64_t s = runtime.create_sequence();
  for (int i = 0; i < 12; ++i) {
    const auto t = source.tokens(32);
    append(runtime, s, t.k, t.v, 0, input_for(runtime.config(), 32, random));
    reference.append(t.k, t.v);
    attend(runtime, s, 32, source.queries(32));
  }
  const auto q = source.queries(40);
  for (const std::int64_t sliding : {1, 60, 200}) {
    AttendOptions options;
    options.rule.sliding_window = sliding;
    options.rule.alibi = {0.01f, 0.02f, 0.f, 0.04f};
    const Attended attended = attend(runtime, s, 40, q, options);
    EXPECT_LT(worst_error(attended, q, 40, reference, shape, options.rule).out, selecting.error) << sliding;
    EXPECT_EQ(attended.stats.keys_attended, attended.stats.keys_visible) << sliding;
  }
}

/// Kept tokens leave the candidates of a selector, whose error then stays what it is.
TEST(WindowPolicies, SamplesOfTheOthersAreWithinTheirError) {
  for (const Policy& policy : kPolicies) {
    for (const lsh::SelectorParams& selector :
         {lsh::SelectorParams(lsh::LshParams{5, 60, 2, 3}), lsh::SelectorParams(lsh::SketchParams{.budget = 0.3})}) {
      Runtime runtime(config_with(policy, selector));
      const AttentionShape& shape = runtime.config().shape;
      TokenSource source(shape, 85);
      CounterRandom random(86, 0);
      ReferenceSequence reference(shape);
      const std::uint64_t s = runtime.create_sequence();
      for (int i = 0; i < 60; ++i) {
        const auto t = source.tokens(32);
        append(runtime, s, t.k, t.v, 0, input_for(runtime.config(), 32, random));
        reference.append(t.k, t.v);
        AttendOptions window_only;  // the policies' scores; cheap
        window_only.use_host = false;
        attend(runtime, s, 32, source.queries(32), window_only);
      }
      const auto q = source.queries(30);
      const Attended attended = attend(runtime, s, 30, q);
      EXPECT_LT(attended.stats.rows_gathered, attended.stats.rows_host) << policy.name;
      ASSERT_GT(attended.stats.out_error, 0) << policy.name;
      double error = 0;
      for (std::int64_t row = 0; row < 30 * 4; ++row) {
        const auto expected = reference.attend(q.data() + row * 64, static_cast<int>(row % 4),
                                               reference.length() - 30 + row / 4);
        error += relative_error(attended.out.data() + row * 64, expected.out) / (30 * 4);
      }
      EXPECT_LT(error, 2 * attended.stats.out_error) << policy.name;
    }
  }
}

}  // namespace
}  // namespace tandem::testing
