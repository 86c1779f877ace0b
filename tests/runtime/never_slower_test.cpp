// The cost model in a step: where it picks dense attention the bits are those of SelectAll, and what it picks follows
// from the configuration and the rows that a query sees.
#include <gtest/gtest.h>

#include "lsh/selection_cost.h"
#include "runtime/base/error.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

constexpr std::int64_t kPrompt = 3000;

/// Selecting pays from about a quarter of the prompt on.
lsh::CostProfile early_profile(const lsh::SelectorParams& selector, const AttentionShape& shape) {
  lsh::CostProfile profile;
  profile.gathered_row_ns = profile.scored_row_ns = 1;
  profile.dense_row_ns = 60;
  const cpu::RowLayout rows = cpu::RowLayout::of(shape, DType::f32);
  profile.selection_ns = 1;
  while (true) {
    const std::int64_t first = lsh::SelectionCost(profile, selector, rows, shape.group_size()).crossover(kMaxTokens);
    TANDEM_CHECK(first >= 0, invalid_state, "selecting never pays; no profile of this test begins at ", kPrompt / 4);
    if (first >= kPrompt / 4) return profile;
    profile.selection_ns *= 1.1;
  }
}

Config config_with(const lsh::SelectorParams& selector, int workers = 2) {
  Config config;
  config.shape = resolved({1, 4, 2, 32, 48, 0.f, 0.f});
  config.window = {4, 64, DType::f32};
  config.selector = selector;
  config.num_workers = workers;
  return config;
}

struct Player {
  explicit Player(const Config& config) : runtime(config), source(runtime.config().shape, 9) {
    sequence = runtime.create_sequence();
  }
  /// Values have a mean: without one every relative error is large, and a wanted error takes all rows.
  TokenSource::Tokens tokens(std::int64_t count) {
    auto tokens = source.tokens(count);
    for (float& x : tokens.v) x += 0.5f;
    return tokens;
  }
  void extend(std::int64_t count) {
    const auto tokens = this->tokens(count);
    append(runtime, sequence, tokens.k, tokens.v);
  }
  Attended step(std::int64_t count = 1, const AttendOptions& options = {}) {
    extend(count);
    return attend(runtime, sequence, count, source.queries(count), options);
  }
  Runtime runtime;
  TokenSource source;
  std::uint64_t sequence = 0;
};

class NeverSlower : public ::testing::TestWithParam<lsh::SelectorParams> {};

INSTANTIATE_TEST_SUITE_P(Selectors, NeverSlower,
                         ::testing::Values(lsh::SelectorParams(lsh::TopKParams{0.1}),
                                           lsh::SelectorParams(lsh::LshParams{8, 40, 2, 9}),
                                           lsh::SelectorParams(lsh::SketchParams{.budget = 0.05}),
                                           lsh::SelectorParams(lsh::SketchParams{.error = 0.3}),
                                           lsh::SelectorParams(lsh::SketchParams{.top_k = true})));

TEST_P(NeverSlower, ShortContextsHaveTheBitsOfSelectAll) {
  Player all(config_with(lsh::SelectAllParams{}));
  Player run(config_with(GetParam()));
  for (Player* each : {&all, &run}) each->extend(700);
  for (const std::int64_t queries : {1, 40, 3}) {
    const Attended expected = all.step(queries);
    const Attended actual = run.step(queries);
    EXPECT_EQ(actual.out, expected.out);
    EXPECT_EQ(actual.lse, expected.lse);
    EXPECT_EQ(actual.stats.rows_gathered, actual.stats.rows_host);
    EXPECT_EQ(actual.stats.keys_attended, actual.stats.keys_visible);
    EXPECT_EQ(actual.stats.out_error, 0.0);
    EXPECT_EQ(actual.stats.lse_error, 0.0);
    EXPECT_EQ(actual.stats.uncertified, 0);
  }
  EXPECT_EQ(run.runtime.query_sequence(run.sequence, 0).index_bytes, 0);  // nobody needed one
}

TEST_P(NeverSlower, SelectionBeginsWhereTheProfileSays) {
  Config config = config_with(GetParam());
  config.profile = early_profile(GetParam(), config.shape);
  Player run(config);
  const lsh::SelectionCost cost(config.profile, GetParam(), cpu::RowLayout::of(config.shape, DType::f32), 2);
  const std::int64_t first = cost.crossover(kMaxTokens);
  run.extend(4 + 64);
  int dense = 0;
  int selected = 0;
  // Rows enter the host tier a page at a time, so lengths come close to the crossover on both sides.
  while (run.runtime.query_sequence(run.sequence, 0).host_rows < kPrompt) {
    const Attended attended = run.step(61);
    const std::int64_t rows = run.runtime.query_sequence(run.sequence, 0).host_rows;
    if (rows < first) {
      EXPECT_EQ(attended.stats.rows_gathered, attended.stats.rows_host) << rows;
      ++dense;
    } else if (rows > 1100) {  // the sketch has an index by now
      selected += attended.stats.rows_gathered < attended.stats.rows_host ? 1 : 0;
    }
  }
  EXPECT_GT(dense, 5);
  EXPECT_GT(selected, 5);
}

TEST_P(NeverSlower, QueriesOfOneStepAreJudgedByWhatEachSees) {
  Config config = config_with(GetParam());
  config.profile = early_profile(GetParam(), config.shape);
  Player together(config);
  Player apart(config);
  const auto tokens = together.tokens(kPrompt);
  const auto q = together.source.queries(kPrompt);
  append(together.runtime, together.sequence, tokens.k, tokens.v);
  append(apart.runtime, apart.sequence, tokens.k, tokens.v);
  const Attended all = attend(together.runtime, together.sequence, kPrompt, q);
  EXPECT_LT(all.stats.rows_gathered, all.stats.rows_host);
  // The latest queries in steps of their own, after a first step that leaves the same index.
  attend(apart.runtime, apart.sequence, kPrompt, q);
  const std::size_t row = 4 * 32;
  const std::int64_t last = 7;
  const std::vector<float> tail(q.end() - static_cast<std::ptrdiff_t>(last * static_cast<std::int64_t>(row)), q.end());
  const Attended few = attend(apart.runtime, apart.sequence, last, tail);
  EXPECT_EQ(few.out, std::vector<float>(all.out.end() - last * 4 * 48, all.out.end()));
}

TEST_P(NeverSlower, ThreadsDoNotChangeWhatIsChosen) {
  std::vector<std::vector<float>> results;
  std::vector<std::int64_t> rows;
  for (const int workers : {1, 2, 5}) {
    Config config = config_with(GetParam(), workers);
    config.profile = early_profile(GetParam(), config.shape);
    Player run(config);
    run.extend(kPrompt / 5);
    std::vector<float> out;
    std::int64_t gathered = 0;
    for (int step = 0; step < 20; ++step) {
      const Attended attended = run.step(60);
      out.insert(out.end(), attended.out.begin(), attended.out.end());
      gathered += attended.stats.rows_gathered;
    }
    results.push_back(out);
    rows.push_back(gathered);
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
  EXPECT_EQ(rows[1], rows[0]);
}

TEST_P(NeverSlower, CanBeSwitchedOff) {
  Config config = config_with(GetParam());
  config.never_slower = false;
  Player run(config);
  run.extend(2000);
  run.step(40);
  const Attended attended = run.step();
  EXPECT_LT(attended.stats.rows_gathered, attended.stats.rows_host);
}

TEST(NeverSlowerStep, ASlidingWindowIsWhatAQuerySees) {
  Config config = config_with(lsh::TopKParams{0.1});
  config.profile = early_profile(config.selector, config.shape);
  Player run(config);
  run.extend(kPrompt);
  const Attended selected = run.step();
  EXPECT_LT(selected.stats.rows_gathered, selected.stats.rows_host);
  AttendOptions options;
  options.rule.sliding_window = 400;
  const Attended attended = run.step(1, options);
  EXPECT_GT(attended.stats.rows_host, 0);
  EXPECT_EQ(attended.stats.rows_gathered, attended.stats.rows_host);
}

}  // namespace
}  // namespace tandem::testing
