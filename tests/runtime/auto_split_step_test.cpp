// The split in the steps of a runtime: profiles so absurd that no machine makes them right, selectors whose true cost
// is beyond doubt, and what was decided judged by the rows that were gathered.
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "runtime/base/log.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

/// What the library says while this lives, at level info.
class Heard {
 public:
  Heard() {
    set_log_hook([this](LogLevel level, const std::string& message) {
      const std::lock_guard lock(mutex_);
      if (level == LogLevel::info) messages_.push_back(message);
    });
  }
  ~Heard() { set_log_hook({}); }
  Heard(const Heard&) = delete;
  Heard& operator=(const Heard&) = delete;
  std::vector<std::string> messages() {
    const std::lock_guard lock(mutex_);
    return messages_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> messages_;
};

/// Gathers most rows one by one after reading 300 buckets: dense attention over so few small rows is always faster.
Config costly_selection() {
  Config config;
  config.shape = resolved({1, 1, 1, 16, 16, 0.f, 0.f});
  config.window = {4, 64, DType::f32};
  config.selector = lsh::LshParams{7, 300, 2, 9};
  config.num_workers = 2;
  config.auto_split = true;
  return config;
}

/// The same, and the profile thinks the world of it. It has no fixed costs in it, so that what a row costs decides,
/// whatever the number of rows.
Config praised_selection() {
  Config config = costly_selection();
  config.profile.dense_row_ns = 42'000;
  config.profile.selection_ns = config.profile.table_read_ns = 0.001;
  return config;
}

/// Reads 1 bit per element and 1 % of the rows, which are long and many, and the profile is sure that it never pays.
Config damned_selection() {
  Config config;
  config.shape = resolved({1, 8, 1, 256, 256, 0.f, 0.f});
  config.window = {4, 64, DType::f32};
  config.selector = lsh::SketchParams{.budget = 0.01, .bits_per_dim = 1};
  config.num_workers = 2;
  config.auto_split = true;
  config.profile.selection_ns = 1e9;
  return config;
}

struct Player {
  explicit Player(const Config& config) : runtime(config), source(runtime.config().shape, 9) {
    sequence = runtime.create_sequence();
  }
  void extend(std::int64_t count) {
    const auto tokens = source.tokens(count);
    for (std::int32_t l = 0; l < runtime.config().shape.num_layers; ++l)
      append(runtime, sequence, tokens.k, tokens.v, l);
  }
  /// `count` tokens and their queries.
  Attended step(std::int64_t count = 64) {
    extend(count);
    return attend(runtime, sequence, count, source.queries(count));
  }
  [[nodiscard]] std::int64_t length() { return runtime.query_sequence(sequence, 0).length; }

  Runtime runtime;
  TokenSource source;
  std::uint64_t sequence = 0;
};

bool is_dense(const Attended& attended) { return attended.stats.rows_gathered == attended.stats.rows_host; }

TEST(AutoSplit, GoesDenseAtTheNextMultipleWhereSelectingIsSlower) {
  Heard heard;
  Player run(praised_selection());
  run.extend(1216);
  while (run.length() < 2 * kSplitTokens) {
    EXPECT_FALSE(is_dense(run.step())) << run.length();
    EXPECT_THAT(heard.messages(), ::testing::IsEmpty());
  }
  const SplitFigures known = run.runtime.split();
  EXPECT_GE(known.dense.steps, kLeastProbes);
  EXPECT_GE(known.selecting.steps, kLeastProbes);
  EXPECT_GT(known.selecting_over_dense(), 10);
  EXPECT_FALSE(is_dense(run.step()));  // the query at the multiple is a probe
  while (run.length() + 61 <= 3 * kSplitTokens) EXPECT_TRUE(is_dense(run.step(61))) << run.length();
  ASSERT_EQ(heard.messages().size(), 1u);
  EXPECT_THAT(heard.messages().front(),
              ::testing::MatchesRegex("auto_split: sequence 1, layer 0: from position 2048 on it selects .*, before: "
                                      "from [0-9]+ rows on; dense .* ns a row, predicted .*, median of [0-9]+ steps; "
                                      "selecting .* ns a row, predicted .*, median of [0-9]+ steps"));
}

TEST(AutoSplit, SelectsFromTheNextMultipleOnWhereThatIsFaster) {
  Player run(damned_selection());
  run.extend(8 * kSplitTokens - 640);
  while (run.length() < 8 * kSplitTokens) run.step();
  const SplitFigures known = run.runtime.split();
  EXPECT_GE(known.selecting.steps, kLeastProbes);
  EXPECT_LT(known.selecting_over_dense(), 0.1);
  for (int i = 0; i < 5; ++i) {
    const Attended attended = run.step(i == 0 ? 2 : 20);
    if (i == 0) continue;  // with the probe
    EXPECT_LT(attended.stats.rows_gathered, attended.stats.rows_host / 10);
  }
}

TEST(AutoSplit, IsOffByDefaultAndMeasuresNothingThen) {
  Config off = praised_selection();
  const Config defaults;
  EXPECT_FALSE(defaults.auto_split);
  off.auto_split = false;
  Player run(off);
  run.extend(1216);
  while (run.length() < 2 * kSplitTokens + 128) EXPECT_FALSE(is_dense(run.step()));
  EXPECT_EQ(run.runtime.split().dense.steps, 0);
  EXPECT_EQ(run.runtime.split().selecting.steps, 0);
}

TEST(AutoSplit, WithoutAProbeTheBitsAreThoseOfTheProfile) {
  Config on = praised_selection();
  on.shape.num_layers = 64;  // layer 0 has its turn at 4,096 positions only
  Config off = on;
  off.auto_split = false;
  Player with(on);
  Player without(off);
  for (Player* each : {&with, &without}) each->extend(1400);
  for (int i = 0; i < 3; ++i) {
    const Attended a = with.step();
    const Attended b = without.step();
    EXPECT_EQ(a.out, b.out);
    EXPECT_EQ(a.lse, b.lse);
  }
}

TEST(AutoSplit, ADenseProbeHasTheBitsOfExactAttention) {
  Player run(praised_selection());
  run.extend(1216 + 64);
  run.extend(1);  // position 1280, a multiple of 64
  const auto q = run.source.queries(1);
  const Attended probe = attend(run.runtime, run.sequence, 1, q);
  AttendOptions options;
  options.exact = true;
  const Attended exact = attend(run.runtime, run.sequence, 1, q, options);
  EXPECT_TRUE(is_dense(probe));
  EXPECT_EQ(probe.out, exact.out);
  EXPECT_EQ(run.runtime.split().dense.steps, 1);  // exact requests are not measured
}

TEST(AutoSplit, ForksAndCutsKeepWhatWasTaken) {
  Player run(praised_selection());
  run.extend(1216);
  while (run.length() < 2 * kSplitTokens + 128) run.step();
  const auto next_is_dense = [&](std::uint64_t sequence) {
    const auto tokens = run.source.tokens(1);
    append(run.runtime, sequence, tokens.k, tokens.v);
    return is_dense(attend(run.runtime, sequence, 1, run.source.queries(1)));
  };
  Heard heard;
  const std::uint64_t fork = run.runtime.fork_sequence(run.sequence, -1, std::nullopt);
  EXPECT_TRUE(next_is_dense(fork));
  EXPECT_TRUE(next_is_dense(run.runtime.fork_sequence(run.sequence, 1700, std::nullopt)));
  run.runtime.truncate_sequence(run.sequence, 1900);
  EXPECT_TRUE(next_is_dense(run.sequence));
  EXPECT_THAT(heard.messages(), ::testing::IsEmpty());  // nobody had to take anything over
  // A new sequence does so in its first step.
  const std::uint64_t second = run.runtime.create_sequence();
  const auto tokens = run.source.tokens(1300);
  append(run.runtime, second, tokens.k, tokens.v);
  EXPECT_TRUE(next_is_dense(second));
  EXPECT_EQ(heard.messages().size(), 1u);
  run.runtime.evict_tokens(fork, 100, 50);
  EXPECT_TRUE(next_is_dense(fork));
}

TEST(AutoSplit, ACutLayerTakesOverAgainWhereItCrossesTheSameMultiple) {
  Player run(praised_selection());
  const std::uint64_t early = run.runtime.create_sequence();
  const auto extend_and_attend = [&](std::int64_t count) {
    const auto tokens = run.source.tokens(count);
    append(run.runtime, early, tokens.k, tokens.v);
    return is_dense(attend(run.runtime, early, 1, run.source.queries(1)));
  };
  EXPECT_FALSE(extend_and_attend(2 * kSplitTokens + 50));  // nothing is known yet
  run.extend(1216);
  while (run.length() < 2 * kSplitTokens) run.step();
  EXPECT_FALSE(extend_and_attend(1));
  run.runtime.truncate_sequence(early, 2 * kSplitTokens - 100);
  EXPECT_FALSE(extend_and_attend(1));
  EXPECT_TRUE(extend_and_attend(120));
}

TEST(AutoSplit, ALayerThatLosesTokensFromItsMiddleKeepsWhatWasTaken) {
  Player run(praised_selection());
  const std::uint64_t early = run.runtime.create_sequence();
  const auto next_is_dense = [&](std::int64_t count) {
    const auto tokens = run.source.tokens(count);
    append(run.runtime, early, tokens.k, tokens.v);
    return is_dense(attend(run.runtime, early, 1, run.source.queries(1)));
  };
  EXPECT_FALSE(next_is_dense(2 * kSplitTokens + 50));  // nothing is known yet
  run.extend(1216);
  while (run.length() < 2 * kSplitTokens) run.step();
  run.runtime.evict_tokens(early, 100, 10);
  EXPECT_FALSE(next_is_dense(1));  // still in the block for which it was taken
  EXPECT_TRUE(next_is_dense(kSplitTokens));
}

TEST(AutoSplit, AForkWithASelectorOfItsOwnKeepsToTheProfile) {
  Player run(praised_selection());
  run.extend(1216);
  while (run.length() < 2 * kSplitTokens + 128) run.step();
  const SplitFigures before = run.runtime.split();
  const std::uint64_t fork = run.runtime.fork_sequence(run.sequence, -1, lsh::TopKParams{0.1});
  for (int i = 0; i < 130; ++i) {
    const auto tokens = run.source.tokens(1);
    append(run.runtime, fork, tokens.k, tokens.v);
    EXPECT_FALSE(is_dense(attend(run.runtime, fork, 1, run.source.queries(1))));
  }
  EXPECT_EQ(run.runtime.split().dense.steps, before.dense.steps);
  EXPECT_EQ(run.runtime.split().selecting.steps, before.selecting.steps);
}

TEST(AutoSplit, AProbeThatFindsNoMemoryForItsIndexIsDense) {
  Config config = costly_selection();
  config.profile.selection_ns = 1e9;
  config.host_memory_bytes = 3 << 20;  // the rows, but not 300 tables
  Player run(config);
  run.extend(2000);
  for (int i = 0; i < 130; ++i) EXPECT_TRUE(is_dense(run.step(1)));
  EXPECT_EQ(run.runtime.split().selecting.steps, 0);
  EXPECT_GT(run.runtime.split().dense.steps, 0);
  EXPECT_LE(run.runtime.split().dense.steps, 2);  // one probe and the query before it: the next is far away
}

TEST(AutoSplit, NeedsNeverSlower) {
  Config config = praised_selection();
  config.never_slower = false;
  EXPECT_EQ(message_of([&] { validate(config); }),
            "auto_split is on and never_slower is off; a selector that always selects leaves nothing to decide: switch "
            "never_slower on, or auto_split off");
}

}  // namespace
}  // namespace tandem::testing
