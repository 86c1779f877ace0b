// A threshold on scores through the runtime: heads of different lengths, a cap, memory on demand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/reference_window.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

struct Case {
  std::int32_t sinks, local, page, cap;
  float threshold;
  gpu::ScoreSource scores;
};

constexpr std::int32_t kQHeads = 4, kKvHeads = 2, kDim = 64;

Config config_of(const Case& c, bool host_tier = false) {
  Config config;
  config.shape = resolved({1, kQHeads, kKvHeads, kDim, kDim, 0.f, 0.f});
  config.window.sink_tokens = c.sinks;
  config.window.local_tokens = c.local;
  config.window.page_tokens = c.page;
  config.window.policy = gpu::Threshold{c.threshold, c.cap, c.scores};
  config.host_tier = host_tier;
  config.num_workers = 2;
  return config;
}

/// Scores of given tokens: those of KV head 1 are higher, and coarse, so that ties happen.
std::vector<float> given_scores(std::int64_t tokens, CounterRandom& random) {
  std::vector<float> scores;
  for (std::int64_t i = 0; i < tokens * kKvHeads; ++i)
    scores.push_back(static_cast<float>(std::round(8 * random.normal()) / 8 + static_cast<double>(i % kKvHeads)));
  return scores;
}

class Threshold : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Runtime, Threshold,
                         ::testing::Values(Case{4, 16, 8, 4096, 0.5f, gpu::ScoreSource::external},
                                           Case{0, 20, 1, 30, -0.25f,
                                                gpu::ScoreSource::external},  // a cap that matters
                                           Case{2, 33, 64, 50, 0.f, gpu::ScoreSource::external},
                                           Case{4, 24, 4, 4096, 0.9f, gpu::ScoreSource::attention},
                                           Case{1, 16, 1, 25, 0.5f, gpu::ScoreSource::attention}));

TEST_P(Threshold, KeepsWhatTheRuleSays) {
  const Case& c = GetParam();
  const bool given = c.scores == gpu::ScoreSource::external;
  Runtime runtime(config_of(c));
  const AttentionShape& shape = runtime.config().shape;
  const std::int64_t row_bytes = cpu::RowLayout::of(shape, DType::f32).row_bytes;
  TokenSource source(shape, 91, DType::f32, 1.5);
  CounterRandom random(92, 0);
  ReferenceSequence reference(shape);
  std::vector<ReferenceWindow> heads(kKvHeads, ReferenceWindow({c.sinks, c.local, c.page, c.cap, c.threshold}));
  const std::uint64_t s = runtime.create_sequence();
  std::int64_t most_kept = 0, bytes = 0;
  for (int step = 0; step < 250; ++step) {
    const std::int64_t n = step < 3 ? c.local : 1;
    const auto t = source.tokens(n);
    PolicyInput input;
    if (given) input.keep = given_scores(n, random);
    append(runtime, s, t.k, t.v, 0, input);
    reference.append(t.k, t.v);
    for (std::int64_t i = 0; i < n * kKvHeads; ++i)
      heads[static_cast<std::size_t>(i % kKvHeads)].append(given ? input.keep[static_cast<std::size_t>(i)] : 0);
    const auto q = source.queries(n);
    const Attended attended = attend(runtime, s, n, q);
    for (std::int64_t row = 0; row < n * kQHeads; ++row) {
      const auto h = static_cast<int>(row % kQHeads);
      const float* query = q.data() + row * kDim;
      const std::int64_t position = reference.length() - n + row / kQHeads;
      ReferenceWindow& head = heads[static_cast<std::size_t>(h / 2)];
      const auto expected =
          given ? reference.attend_over(query, h, head.held(position)) : head.attend(reference, query, h, position);
      ASSERT_LT(relative_error(attended.out.data() + row * kDim, expected.out), 2e-5) << step;
    }
    const SequenceInfo info = runtime.query_sequence(s, 0);
    std::int64_t entries = 0, limit = 0;
    for (const ReferenceWindow& head : heads) {
      entries += static_cast<std::int64_t>(head.held(head.length()).size());
      most_kept = std::max(most_kept, head.num_kept());
      // A page more, of each kind of row, than what has been needed; kept tokens only if some were.
      const std::int64_t kept_pages = most_kept == 0 ? 0 : (most_kept + c.page + 63) / 64;
      limit += (std::min<std::int64_t>(reference.length(), c.sinks + c.local + c.page) + 63 + 64 * kept_pages + 64) *
               row_bytes;
    }
    EXPECT_EQ(info.window_entries, entries);
    EXPECT_EQ(info.length, reference.length());
    EXPECT_LE(info.window_bytes, limit);
    EXPECT_GE(info.window_bytes, std::max(bytes, entries * row_bytes));
    bytes = info.window_bytes;
  }
  EXPECT_GT(most_kept, 0);
  EXPECT_LE(most_kept, c.cap);
  if (c.cap < 100) {
    EXPECT_EQ(most_kept, c.cap);
  }
  if (given && c.cap > 100) {
    EXPECT_GT(heads[1].num_kept(), heads[0].num_kept() + 20);
  }
  if (!given) {
    EXPECT_GT(std::min(heads[0].closest_call(), heads[1].closest_call()), 1e-5);
  }
}

TEST(ThresholdRuntime, ScoresDecideWhateverTheChunks) {
  const Case c{4, 16, 8, 60, 0.5f, gpu::ScoreSource::external};
  for (const bool host_tier : {false, true}) {
    Runtime runtime(config_of(c, host_tier));
    TokenSource source(runtime.config().shape, 93);
    CounterRandom random(94, 0);
    const auto t = source.tokens(400);
    const auto scores = given_scores(400, random);
    const auto q = source.queries(1);
    std::vector<std::vector<float>> outs;
    for (const std::int64_t chunk : {1, 13, 400}) {
      const std::uint64_t s = runtime.create_sequence();
      for (std::int64_t done = 0; done < 400; done += chunk) {
        const std::int64_t n = std::min(chunk, 400 - done);
        const auto part = slice(t, done, n, runtime.config().shape);
        append(runtime, s, part.k, part.v, 0, {rows_of(scores, done, n, kKvHeads), {}, {}, {}});
      }
      outs.push_back(attend(runtime, s, 1, q).out);
    }
    EXPECT_EQ(outs[1], outs[0]);
    EXPECT_EQ(outs[2], outs[0]);
  }
}

TEST(ThresholdRuntime, MissingOrBadScoresAreRefused) {
  const auto message = [](const Case& c, std::vector<float> keep) {
    Runtime runtime(config_of(c));
    TokenSource source(runtime.config().shape, 95);
    const std::uint64_t s = runtime.create_sequence();
    const auto t = source.tokens(2);
    try {
      append(runtime, s, t.k, t.v, 0, {std::move(keep), {}, {}, {}});
    } catch (const Error& error) {
      EXPECT_EQ(runtime.query_sequence(s, 0).length, 0);
      EXPECT_EQ(runtime.query_sequence(s, 0).window_bytes, 0);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const Case given{4, 16, 8, 60, 0.5f, gpu::ScoreSource::external};
  const Case attention{4, 16, 8, 60, 0.5f, gpu::ScoreSource::attention};
  EXPECT_EQ(message(given, {}), "keep is NULL; the window_policy threshold with given scores needs it");
  EXPECT_EQ(message(attention, {1, 2, 3, 4}),
            "keep is given; the window_policy threshold with scores of attention takes none");
  EXPECT_EQ(message(given, {1, 2, 3, std::nanf("")}), "keep is nan for token 1, KV head 1; every value must be finite");
}

}  // namespace
}  // namespace tandem::testing
