// Sketch sampling through the runtime: when it starts, what it reports, and that it honours every rule of attention.
#include <gtest/gtest.h>

#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

constexpr std::int64_t kPrompt = 4000;

Config config_with(const lsh::SelectorParams& selector, float softcap = 0.f) {
  Config config;
  config.shape = resolved({1, 4, 2, 32, 48, 0.f, softcap});
  config.window = {4, 64, DType::f32};
  config.selector = selector;
  config.never_slower = false;
  config.num_workers = 2;
  return config;
}

/// One sequence, its reference, and the same prompt for every test. Queries of the prompt's end come with it.
struct Sequel {
  explicit Sequel(const Config& config, std::int64_t tail_queries = 64)
      : runtime(config), source(config.shape, 5, DType::f32, 1.2), reference(config.shape) {
    const AttentionShape& shape = config.shape;
    sequence = runtime.create_sequence();
    extend(kPrompt - tail_queries);
    if (tail_queries == 0) return;
    const auto tail = tokens(tail_queries);
    q = source.queries(tail_queries);
    AppendRequest request;
    request.sequences = {&sequence, 1};
    request.num_tokens = {&tail_queries, 1};
    request.kv = {dense_view(tail.k.data(), DType::f32, tail_queries, shape.num_kv_heads, shape.head_dim_k),
                  dense_view(tail.v.data(), DType::f32, tail_queries, shape.num_kv_heads, shape.head_dim_v)};
    request.q = dense_view(std::as_const(q).data(), DType::f32, tail_queries, shape.num_q_heads, shape.head_dim_k);
    runtime.append(request);
    reference.append(tail.k, tail.v);
  }
  /// Values have a mean: without one, their average over many rows is so short that every error is large beside it.
  TokenSource::Tokens tokens(std::int64_t count) {
    auto tokens = source.tokens(count);
    for (float& x : tokens.v) x += 0.5f;
    return tokens;
  }
  void extend(std::int64_t count) {
    const auto more = tokens(count);
    append(runtime, sequence, more.k, more.v);
    reference.append(more.k, more.v);
  }
  /// One decode step of `count` tokens.
  Attended step(std::int64_t count, const AttendOptions& options = {}) {
    extend(count);
    q = source.queries(count);
    return attend(runtime, sequence, count, q, options);
  }

  Runtime runtime;
  TokenSource source;
  ReferenceSequence reference;
  std::uint64_t sequence = 0;
  std::vector<float> q;
};

double share_of(const Attended& attended) {
  return static_cast<double>(attended.stats.rows_gathered) / static_cast<double>(attended.stats.rows_host);
}

TEST(SketchStep, StartsWithTheQueriesThatCameWithThePrompt) {
  Sequel run(config_with(lsh::SketchParams{}));
  const Attended first = run.step(1);
  EXPECT_LT(share_of(first), 0.025);
  EXPECT_GT(run.runtime.query_sequence(run.sequence, 0).index_bytes, 0);
  EXPECT_GT(first.stats.out_error, 0.0);
  EXPECT_GT(first.stats.lse_error, 0.0);
}

TEST(SketchStep, AnEmptySequenceAndOneTokenAreExact) {
  const Config config = config_with(lsh::SketchParams{.error = 0.1});
  Runtime runtime(config);
  TokenSource source(config.shape, 9);
  ReferenceSequence reference(config.shape);
  const std::uint64_t sequence = runtime.create_sequence();
  EXPECT_TRUE(attend(runtime, sequence, 0, {}).out.empty());
  const auto token = source.tokens(1);
  append(runtime, sequence, token.k, token.v);
  reference.append(token.k, token.v);
  const auto q = source.queries(1);
  const Attended attended = attend(runtime, sequence, 1, q);
  EXPECT_LT(worst_error(attended, q, 1, reference, runtime.config().shape).out, 1e-5);
  EXPECT_EQ(attended.stats.out_error, 0.0);
  EXPECT_EQ(attended.stats.uncertified, 0);
}

TEST(SketchStep, WithoutQueriesItIsDenseUntilItHasSeenEnough) {
  Sequel run(config_with(lsh::SketchParams{}), 0);
  for (int step = 1; step < 32; ++step) {
    const Attended dense = run.step(1);
    EXPECT_EQ(share_of(dense), 1.0) << step;
    EXPECT_EQ(dense.stats.out_error, 0.0);
    EXPECT_EQ(dense.stats.uncertified, 0);
  }
  EXPECT_LT(share_of(run.step(1)), 0.025);  // the 64th query vector of each group
}

TEST(SketchStep, QueriesSeenByExactPrefillCalibrateAForkToo) {
  Sequel run(config_with(lsh::SelectAllParams{}), 0);
  run.step(40, {.exact = true});
  const std::uint64_t fork = run.runtime.fork_sequence(run.sequence, -1, lsh::SketchParams{.budget = 0.05});
  const auto attended = attend(run.runtime, fork, 1, run.source.queries(1));
  EXPECT_LT(share_of(attended), 0.06);
}

TEST(SketchStep, ReportsTheErrorThatItHas) {
  Sequel run(config_with(lsh::SketchParams{.budget = 0.05, .bits_per_dim = 2}));
  double stated = 0;
  double happened = 0;
  for (int step = 0; step < 30; ++step) {
    const Attended attended = run.step(1);
    stated += attended.stats.out_error;
    EXPECT_EQ(attended.stats.uncertified, 0);
    for (int h = 0; h < 4; ++h) {
      const auto exact = run.reference.attend(run.q.data() + h * 32, h, run.reference.length() - 1);
      happened += relative_error(attended.out.data() + h * 48, exact.out) / 4;
    }
  }
  EXPECT_GT(happened, 0.3 * stated);  // shrinking makes it smaller than stated
  EXPECT_LT(happened, 1.1 * stated);
}

/// Values without a mean: their average over many rows is short, and the error of a small sample is longer.
TEST(SketchStep, CoversErrorsThatAreLargerThanTheResult) {
  const Config config = config_with(lsh::SketchParams{.budget = 0.01});
  Runtime runtime(config);
  TokenSource source(config.shape, 6);
  ReferenceSequence reference(config.shape);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto extend = [&](std::int64_t count) {
    const auto tokens = source.tokens(count);
    append(runtime, sequence, tokens.k, tokens.v);
    reference.append(tokens.k, tokens.v);
  };
  extend(kPrompt);
  attend(runtime, sequence, 64, source.queries(64), {.exact = true});  // what the sketch is calibrated on
  int certified = 0, covered = 0, larger = 0;
  for (int step = 0; step < 40; ++step) {
    extend(1);
    const auto q = source.queries(1);
    const Attended attended = attend(runtime, sequence, 1, q);
    for (int h = 0; h < 4; ++h) {
      const auto exact = reference.attend(q.data() + h * 32, h, reference.length() - 1);
      const double error = relative_error(attended.out.data() + h * 48, exact.out);
      larger += error > 1 ? 1 : 0;
      certified += attended.certified[h];
      covered += attended.certified[h] != 0 && error <= 2 * attended.error[h] ? 1 : 0;
    }
  }
  EXPECT_GT(larger, 40);
  EXPECT_GT(certified, 100);
  EXPECT_GE(covered, certified * 96 / 100);
}

TEST(SketchStep, MeetsTheErrorThatIsAskedFor) {
  int met = 0;
  int total = 0;
  double rows = 0;
  Sequel run(config_with(lsh::SketchParams{.error = 0.1}));
  for (int step = 0; step < 40; ++step) {
    const Attended attended = run.step(1);
    rows += share_of(attended);
    for (int h = 0; h < 4; ++h, ++total) {
      const auto exact = run.reference.attend(run.q.data() + h * 32, h, run.reference.length() - 1);
      met += relative_error(attended.out.data() + h * 48, exact.out) <= 0.1 ? 1 : 0;
    }
  }
  EXPECT_GE(met, total * 97 / 100);
  EXPECT_LT(rows / 40, 0.4);  // where 15 % would not do, a head runs dense
}

TEST(SketchStep, ExactPartsAndTopKSayWhatIsKnown) {
  Sequel run(config_with(lsh::SketchParams{}));
  const Attended exact = run.step(1, {.exact = true});
  EXPECT_EQ(exact.stats.out_error, 0.0);
  EXPECT_EQ(exact.stats.uncertified, 0);
  EXPECT_EQ(run.step(1, {.use_window = false}).stats.out_error, -1.0);
  const std::uint64_t fork = run.runtime.fork_sequence(run.sequence, -1, lsh::SketchParams{.top_k = true});
  const Attended top = attend(run.runtime, fork, 1, run.q);
  EXPECT_EQ(top.stats.out_error, -1.0);
  EXPECT_EQ(top.stats.uncertified, 4);
  EXPECT_LE(share_of(top), 0.021);
}

TEST(SketchStep, HonoursEveryRuleOfAttention) {
  struct Case {
    float softcap;
    ReferenceRule rule;
  };
  const std::vector<float> alibi{0.001f, 0.002f, 0.0005f, 0.f}, sinks{1.f, 2.f, 0.f, -1.f};
  for (const Case& c : {Case{0.f, {}}, Case{2.f, {}}, Case{0.f, {0, alibi, {}}}, Case{0.f, {1500, {}, {}}},
                        Case{0.f, {0, {}, sinks}}, Case{3.f, {2000, alibi, sinks}}}) {
    Sequel run(config_with(lsh::SketchParams{.budget = 0.3, .bits_per_dim = 2}, c.softcap));
    const Attended attended = run.step(3, {.rule = c.rule});
    const auto worst = worst_error(attended, run.q, 3, run.reference, run.runtime.config().shape, c.rule);
    EXPECT_LT(worst.out, 0.15);
    EXPECT_LT(worst.lse, 0.05);
    EXPECT_LT(share_of(attended), 0.32);
  }
}

TEST(SketchStep, TruncatedAndForkedSequencesGoOnAlike) {
  Sequel run(config_with(lsh::SketchParams{}));
  run.step(1);
  const std::int64_t length = run.reference.length();
  const std::uint64_t fork = run.runtime.fork_sequence(run.sequence, length, std::nullopt);
  run.step(200);  // pages leave the window and are indexed
  run.runtime.truncate_sequence(run.sequence, length);
  const auto more = run.tokens(150);
  const auto q = run.source.queries(1);
  for (const std::uint64_t sequence : {run.sequence, fork}) append(run.runtime, sequence, more.k, more.v);
  EXPECT_EQ(attend(run.runtime, run.sequence, 1, q).out, attend(run.runtime, fork, 1, q).out);
}

/// Heads and layers that hold the same draw different rows: each has random numbers of its own.
TEST(SketchStep, HeadsAndLayersDrawIndependently) {
  Config config;
  config.shape = resolved({2, 2, 2, 32, 32, 0.f, 0.f});
  config.window = {4, 64, DType::f32};
  config.selector = lsh::SketchParams{.budget = 0.1};
  config.never_slower = false;
  config.num_workers = 1;
  Runtime runtime(config);
  TokenSource source({1, 1, 1, 32, 32, 1.f, 0.f}, 31);
  const auto twice = [](const std::vector<float>& one) {  // the same rows for both heads
    std::vector<float> both;
    for (std::size_t t = 0; t < one.size(); t += 32) {
      for (int head = 0; head < 2; ++head) both.insert(both.end(), one.begin() + t, one.begin() + t + 32);
    }
    return both;
  };
  const auto tokens = source.tokens(1500);
  const auto observed = twice(source.queries(80));
  const auto q = twice(source.queries(1));
  const std::uint64_t sequence = runtime.create_sequence();
  std::vector<std::vector<float>> outs;
  for (std::int32_t layer = 0; layer < 2; ++layer) {
    append(runtime, sequence, twice(tokens.k), twice(tokens.v), layer);
    attend(runtime, sequence, 80, observed, {.layer = layer, .exact = true});
    const auto attended = attend(runtime, sequence, 1, q, {.layer = layer});
    EXPECT_LT(attended.stats.rows_gathered, attended.stats.rows_host / 4);
    outs.emplace_back(attended.out.begin(), attended.out.begin() + 32);
    outs.emplace_back(attended.out.begin() + 32, attended.out.end());
  }
  for (std::size_t a = 0; a < outs.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) EXPECT_NE(outs[a], outs[b]) << a << ", " << b;
  }
}

}  // namespace
}  // namespace tandem::testing
