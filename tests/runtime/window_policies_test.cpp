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
     [](gpu::WindowParams& w) {
       w.policy = gpu::Threshold{1.f, 50, gpu::ScoreSource::attention};
     }},
    {"threshold_of_given_scores",
     [](gpu::WindowParams& w) {
       w.policy = gpu::Threshold{0.5f, 200, gpu::ScoreSource::external}, w.page_tokens = 5;
     }},
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
                                            gpu::device_kinds()),
                         [](const auto& test) {
                           return concat(std::get<0>(test.param).name, "_", std::get<1>(test.param).name, "_",
                                         gpu::to_string(std::get<2>(test.param)));
                         });

TEST_P(WindowPolicies, WindowAndHostTierTogetherAreDenseAttention) {
  const auto& [policy, selecting, device] = GetParam();
  Runtime runtime(config_with(policy, selecting.params), gpu::device_maker(device));
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
  Runtime runtime(config_with(policy, selecting.params), gpu::device_maker(device));
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

class EveryPolicy : public ::testing::TestWithParam<Policy> {};

INSTANTIATE_TEST_SUITE_P(WindowPolicies, EveryPolicy, ::testing::ValuesIn(kPolicies),
                         [](const auto& test) { return std::string(test.param.name); });

/// A sequence that decodes; what it takes is a function of its seed and of the steps so far.
class Decoding {
 public:
  Decoding(Runtime& runtime, std::uint64_t seed)
      : runtime_(runtime),
        source_(runtime.config().shape, seed),
        random_(seed, 7),
        reference_(runtime.config().shape),
        id_(runtime.create_sequence()) {}

  void append(std::int64_t tokens) {
    const auto t = source_.tokens(tokens);
    testing::append(runtime_, id_, t.k, t.v, 0, input_for(runtime_.config(), tokens, random_));
    reference_.append(t.k, t.v);
  }
  [[nodiscard]] std::vector<float> queries() { return source_.queries(1); }
  void step() {
    append(1);
    attend(runtime_, id_, 1, queries());
  }
  /// Goes on as another sequence that has its first `length` tokens.
  void become(std::uint64_t id, std::int64_t length) {
    id_ = id;
    reference_.truncate(length);
  }
  double error() {
    const auto q = queries();
    return worst_error(attend(runtime_, id_, 1, q), q, 1, reference_, runtime_.config().shape).out;
  }
  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] std::int64_t length() const { return reference_.length(); }

 private:
  Runtime& runtime_;
  TokenSource source_;
  CounterRandom random_;
  ReferenceSequence reference_;
  std::uint64_t id_;
};

TEST_P(EveryPolicy, WorkersAndCompanyChangeNoBit) {
  for (const bool host_tier : {false, true}) {
    std::vector<std::vector<float>> outs;
    for (const auto& [workers, together] : {std::pair(1, false), {3, false}, {1, true}, {3, true}}) {
      Config config = config_with(GetParam(), lsh::SelectAllParams{});
      config.host_tier = host_tier;
      config.num_workers = workers;
      Runtime runtime(config);
      std::vector<Decoding> sequences;
      for (std::uint64_t i = 0; i < 3; ++i) sequences.emplace_back(runtime, 50 + i);
      auto& out = outs.emplace_back();
      for (int step = 0; step < 150; ++step) {
        std::vector<float> q;
        for (Decoding& sequence : sequences) {
          sequence.append(step == 0 ? 32 : 1);
          const auto queries = sequence.queries();
          if (!together) out = attend(runtime, sequence.id(), 1, queries).out;
          q.insert(q.end(), queries.begin(), queries.end());
        }
        if (!together) continue;
        out = attend(runtime, {sequences[0].id(), sequences[1].id(), sequences[2].id()}, {1, 1, 1}, q).out;
        out.erase(out.begin(), out.end() - 4 * 64);
      }
    }
    for (const auto& out : outs) EXPECT_EQ(out, outs.front());
  }
}

TEST_P(EveryPolicy, IsDenseForEveryShape) {
  for (const int head_dim : {64, 80, 128, 256}) {
    for (const int group : {1, 8}) {
      Config config = config_with(GetParam(), lsh::SelectAllParams{});
      config.shape = resolved({1, 2 * group, 2, head_dim, head_dim, 0.f, 0.f});
      Runtime runtime(config);
      TokenSource source(config.shape, 89);
      CounterRandom random(90, 0);
      ReferenceSequence reference(config.shape);
      const std::uint64_t s = runtime.create_sequence();
      for (int i = 0; i < 6; ++i) {
        const auto t = source.tokens(32);
        append(runtime, s, t.k, t.v, 0, input_for(config, 32, random));
        reference.append(t.k, t.v);
        const auto q = source.queries(32);
        EXPECT_LT(worst_error(attend(runtime, s, 32, q), q, 32, reference, config.shape).out, 2e-5)
            << head_dim << ", " << group;
      }
    }
  }
}

TEST_P(EveryPolicy, NoTokenAndOneToken) {
  const Config config = config_with(GetParam(), lsh::SelectAllParams{});
  Runtime runtime(config);
  TokenSource source(config.shape, 91);
  CounterRandom random(92, 0);
  const std::uint64_t s = runtime.create_sequence();
  EXPECT_EQ(append(runtime, s, {}, {}).rows_dropped, 0);
  EXPECT_TRUE(attend(runtime, s, 0, {}).out.empty());
  runtime.truncate_sequence(s, 0);
  const auto t = source.tokens(1);
  append(runtime, s, t.k, t.v, 0, input_for(config, 1, random));
  append(runtime, s, {}, {});
  ReferenceSequence reference(config.shape);
  reference.append(t.k, t.v);
  const auto q = source.queries(1);
  EXPECT_LT(worst_error(attend(runtime, s, 1, q), q, 1, reference, config.shape).out, 1e-6);
}

TEST_P(EveryPolicy, AForkGoesOnLikeItsSource) {
  for (const bool host_tier : {false, true}) {
    Config config = config_with(GetParam(), lsh::SelectAllParams{});
    config.host_tier = host_tier;
    Runtime runtime(config);
    Decoding source(runtime, 87), fork(runtime, 87);
    for (int i = 0; i < 160; ++i) {
      source.step();
      fork.step();
    }
    runtime.destroy_sequence(fork.id());
    fork.become(runtime.fork_sequence(source.id(), -1, std::nullopt), 160);
    for (int i = 0; i < 100; ++i) {
      source.step();
      fork.step();
    }
    const auto q = source.queries();
    const auto expected = attend(runtime, source.id(), 1, q).out;
    runtime.destroy_sequence(source.id());
    EXPECT_EQ(attend(runtime, fork.id(), 1, q).out, expected);
  }
}

TEST_P(EveryPolicy, CutsWithAHostTierStayDense) {
  Runtime runtime(config_with(GetParam(), lsh::SelectAllParams{}));
  for (const std::int64_t length : {299, 298, 270, 200, 133, 77, 37, 36, 5, 3}) {
    Decoding cut(runtime, 88);
    while (cut.length() < 300) cut.step();
    const std::uint64_t fork = runtime.fork_sequence(cut.id(), length, std::nullopt);
    runtime.truncate_sequence(cut.id(), length);
    cut.become(cut.id(), length);
    EXPECT_LT(cut.error(), 2e-5) << length;
    const auto q = cut.queries();
    EXPECT_LT(std::abs(attend(runtime, cut.id(), 1, q).lse[0] - attend(runtime, fork, 1, q).lse[0]), 1e-5);
    for (int i = 0; i < 120; ++i) cut.step();
    EXPECT_LT(cut.error(), 2e-5) << length;
    for (const std::uint64_t s : {cut.id(), fork}) runtime.destroy_sequence(s);
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
      for (int i = 0; i < 45; ++i) {
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
        const auto expected =
            reference.attend(q.data() + row * 64, static_cast<int>(row % 4), reference.length() - 30 + row / 4);
        error += relative_error(attended.out.data() + row * 64, expected.out) / (30 * 4);
      }
      EXPECT_LT(error, 2 * attended.stats.out_error) << policy.name;
    }
  }
}

}  // namespace
}  // namespace tandem::testing
