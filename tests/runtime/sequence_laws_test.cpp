// Laws of sequences: grouping of calls, fork, truncate, batches; for every selector.
#include <gtest/gtest.h>

#include "lsh/query_log.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

Config config_with(const lsh::SelectorParams& selector, std::int32_t local = 64) {
  Config config;
  config.shape = resolved({2, 4, 2, 64, 64, 0.f, 0.f});
  config.window = {4, local, DType::f32};
  config.selector = selector;
  config.never_slower = false;
  config.num_workers = 2;
  return config;
}

// Enough for an index of any kind: rows beside the largest window of these tests, and query vectors, two per token.
constexpr std::int64_t kLong = 1500;
constexpr std::int64_t kManyQueries = 40;

/// A sketch without an index is dense, and every law holds.
void expect_index(Runtime& runtime, std::uint64_t sequence) {
  if (!std::holds_alternative<lsh::SketchParams>(runtime.config().selector)) return;
  const SequenceInfo info = runtime.query_sequence(sequence, 0);
  EXPECT_GE(info.host_rows, 1100);
  EXPECT_GT(info.calibrated_rows, 0);
}

class Selectors : public ::testing::TestWithParam<lsh::SelectorParams> {};

INSTANTIATE_TEST_SUITE_P(SequenceLaws, Selectors,
                         ::testing::Values(lsh::SelectorParams(lsh::SelectAllParams{}),
                                           lsh::SelectorParams(lsh::TopKParams{0.1}),
                                           lsh::SelectorParams(lsh::LshParams{6, 40, 2, 9}),
                                           lsh::SelectorParams(lsh::SketchParams{})));

void append_all_layers(Runtime& runtime, std::uint64_t sequence, const TokenSource::Tokens& t) {
  for (std::int32_t layer = 0; layer < runtime.config().shape.num_layers; ++layer)
    append(runtime, sequence, t.k, t.v, layer);
}

TEST_P(Selectors, ForksDivergeLikeIndependentSequences) {
  Runtime runtime(config_with(GetParam()));
  TokenSource source(runtime.config().shape, 21);
  const auto shared = source.tokens(kLong);
  const auto left = source.tokens(200);
  const auto right = source.tokens(200);
  const auto q = source.queries(kManyQueries);
  // The index centres keys by the rows of its first build, so every sequence here is built at the same token.
  const auto start = [&] {
    const std::uint64_t s = runtime.create_sequence();
    append_all_layers(runtime, s, shared);
    attend(runtime, s, kManyQueries, q);
    expect_index(runtime, s);
    return s;
  };
  const std::uint64_t a = start();
  const std::uint64_t b = runtime.fork_sequence(a, -1, std::nullopt);
  append_all_layers(runtime, a, left);
  append_all_layers(runtime, b, right);
  const std::uint64_t alone_a = start();
  const std::uint64_t alone_b = start();
  append_all_layers(runtime, alone_a, left);
  append_all_layers(runtime, alone_b, right);
  EXPECT_EQ(attend(runtime, a, kManyQueries, q).out, attend(runtime, alone_a, kManyQueries, q).out);
  EXPECT_EQ(attend(runtime, b, kManyQueries, q).out, attend(runtime, alone_b, kManyQueries, q).out);
  runtime.destroy_sequence(a);
  EXPECT_EQ(attend(runtime, b, kManyQueries, q).out, attend(runtime, alone_b, kManyQueries, q).out);
}

TEST_P(Selectors, TruncateThenAppendIsNeverAppended) {
  Runtime runtime(config_with(GetParam(), 256));
  TokenSource source(runtime.config().shape, 22);
  const auto shared = source.tokens(kLong);
  const auto dropped = source.tokens(100);  // fewer than the window holds: drafted tokens that were not accepted
  const auto kept = source.tokens(200);
  const auto q = source.queries(kManyQueries);
  const std::uint64_t a = runtime.create_sequence();
  const std::uint64_t b = runtime.create_sequence();
  for (const std::uint64_t s : {a, b}) {
    append_all_layers(runtime, s, shared);
    attend(runtime, s, kManyQueries, q);
    expect_index(runtime, s);
  }
  append_all_layers(runtime, a, dropped);
  attend(runtime, a, kManyQueries, q);
  runtime.truncate_sequence(a, kLong);
  // Pages that left the window do not come back, so equal splits (and equal bits) return with the next page that
  // leaves.
  append_all_layers(runtime, a, kept);
  append_all_layers(runtime, b, kept);
  EXPECT_EQ(runtime.query_sequence(a, 1).host_rows, runtime.query_sequence(b, 1).host_rows);
  EXPECT_EQ(attend(runtime, a, kManyQueries, q).out, attend(runtime, b, kManyQueries, q).out);
}

TEST_P(Selectors, AShorterPrefixEqualsASequenceThatWasNeverLonger) {
  Runtime runtime(config_with(GetParam()));
  TokenSource source(runtime.config().shape, 28);
  const auto prefix = source.tokens(150);  // it fits into the window, so its index starts anew
  const auto dropped = source.tokens(600);
  const auto kept = source.tokens(kLong);
  const auto q = source.queries(3);
  const std::uint64_t cut = runtime.create_sequence();
  append_all_layers(runtime, cut, prefix);
  append_all_layers(runtime, cut, dropped);
  attend(runtime, cut, 3, q);
  const std::uint64_t forked = runtime.fork_sequence(cut, 131, std::nullopt);
  runtime.truncate_sequence(cut, 131);
  const std::uint64_t fresh = runtime.create_sequence();
  const std::int64_t row = std::int64_t{runtime.config().shape.num_kv_heads} * runtime.config().shape.head_dim_k;
  append_all_layers(
      runtime, fresh,
      {{prefix.k.begin(), prefix.k.begin() + 131 * row}, {prefix.v.begin(), prefix.v.begin() + 131 * row}});
  for (const std::uint64_t s : {cut, forked}) {
    EXPECT_EQ(runtime.query_sequence(s, 0).host_rows, runtime.query_sequence(fresh, 0).host_rows);
    EXPECT_EQ(runtime.query_sequence(s, 0).index_bytes, 0);
    EXPECT_EQ(attend(runtime, s, 3, q).out, attend(runtime, fresh, 3, q).out);
  }
  for (const std::uint64_t s : {cut, forked, fresh}) append_all_layers(runtime, s, kept);
  // As many tokens as a log of queries holds: those of the dropped tokens are to calibrate nothing.
  const std::int64_t logged = lsh::QueryLog::kLoggedQueries / runtime.config().shape.group_size();
  const auto last = source.queries(logged);
  const auto expected = attend(runtime, fresh, logged, last);
  expect_index(runtime, fresh);
  for (const std::uint64_t s : {cut, forked}) {
    EXPECT_EQ(attend(runtime, s, logged, last).out, expected.out);
    EXPECT_EQ(runtime.query_sequence(s, 0).index_bytes, runtime.query_sequence(fresh, 0).index_bytes);
  }
}

TEST_P(Selectors, ACutKeepsTheLatestTokensInTheWindow) {
  Runtime runtime(config_with(GetParam(), 100));
  TokenSource source(runtime.config().shape, 29);
  const std::uint64_t source_sequence = runtime.create_sequence();
  append_all_layers(runtime, source_sequence, source.tokens(1500));
  const auto q = source.queries(1);
  attend(runtime, source_sequence, 1, q);
  for (const std::int64_t length : {1499, 1400, 1335, 700, 169, 168, 104, 3}) {
    const std::uint64_t fork = runtime.fork_sequence(source_sequence, length, std::nullopt);
    const SequenceInfo info = runtime.query_sequence(fork, 0);
    EXPECT_EQ(info.window_rows + info.host_rows, length);
    EXPECT_GE(info.window_rows, std::min<std::int64_t>(length, 4 + 100)) << length;
    runtime.destroy_sequence(fork);
  }
}

TEST_P(Selectors, GroupingOfQueriesDoesNotMatter) {
  Runtime runtime(config_with(GetParam()));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 30);
  const std::uint64_t s = runtime.create_sequence();
  append_all_layers(runtime, s, source.tokens(kLong));
  AttendOptions options;
  const auto q = source.queries(kManyQueries);
  const std::int64_t row_q = std::int64_t{shape.num_q_heads} * shape.head_dim_k;
  for (const std::int64_t sliding : {0, 70, 333}) {
    options.rule.sliding_window = sliding;
    const auto together = attend(runtime, s, kManyQueries, q, options);
    expect_index(runtime, s);
    for (const std::int64_t last : {kManyQueries, std::int64_t{17}, std::int64_t{1}}) {  // the last queries alone
      const std::vector<float> part(q.end() - last * row_q, q.end());
      const auto alone = attend(runtime, s, last, part, options);
      EXPECT_TRUE(std::equal(alone.out.rbegin(), alone.out.rend(), together.out.rbegin())) << sliding << " " << last;
    }
  }
}

TEST(SequenceLaws, TruncatedSequenceIsExactAtEveryLength) {
  Runtime runtime(config_with(lsh::SelectAllParams{}));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 23);
  const auto t = source.tokens(400);
  for (const std::int64_t length : {399, 337, 336, 200, 133, 69, 68, 5, 4, 3, 1}) {
    ReferenceSequence reference(shape);
    reference.append(t.k, t.v);
    const std::uint64_t s = runtime.create_sequence();
    append_all_layers(runtime, s, t);
    runtime.truncate_sequence(s, length);
    reference.truncate(length);
    const auto q = source.queries(1);
    EXPECT_LT(worst_error(attend(runtime, s, 1, q), q, 1, reference, shape).out, 2e-5) << length;
    const auto more = source.tokens(150);
    append_all_layers(runtime, s, more);
    reference.append(more.k, more.v);
    EXPECT_LT(worst_error(attend(runtime, s, 1, q), q, 1, reference, shape).out, 2e-5) << length;
    runtime.destroy_sequence(s);
  }
}

TEST_P(Selectors, GroupingOfTokensDoesNotMatter) {
  Runtime runtime(config_with(GetParam()));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 24);
  const auto t = source.tokens(kLong);
  const std::uint64_t bulk = runtime.create_sequence();
  const std::uint64_t single = runtime.create_sequence();
  append_all_layers(runtime, bulk, t);
  const std::int64_t row_k = std::int64_t{shape.num_kv_heads} * shape.head_dim_k;
  for (std::int64_t i = 0; i < kLong; ++i) {
    append_all_layers(runtime, single,
                      {{t.k.begin() + i * row_k, t.k.begin() + (i + 1) * row_k},
                       {t.v.begin() + i * row_k, t.v.begin() + (i + 1) * row_k}});
  }
  const auto q = source.queries(kManyQueries);
  EXPECT_EQ(attend(runtime, bulk, kManyQueries, q).out, attend(runtime, single, kManyQueries, q).out);
  expect_index(runtime, bulk);
  expect_index(runtime, single);
}

TEST_P(Selectors, RaggedBatchesEqualSingleSequences) {
  Runtime runtime(config_with(GetParam()));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 25);
  std::vector<std::uint64_t> sequences;
  const std::vector<std::int64_t> counts{1, 4, 0, 2};
  for (const std::int64_t tokens : {std::int64_t{300}, std::int64_t{10}, std::int64_t{77}, kLong}) {
    sequences.push_back(runtime.create_sequence());
    append_all_layers(runtime, sequences.back(), source.tokens(tokens));
  }
  attend(runtime, sequences.back(), kManyQueries, source.queries(kManyQueries));
  expect_index(runtime, sequences.back());
  const auto q = source.queries(7);
  const auto batch = attend(runtime, sequences, counts, q);
  std::int64_t first = 0;
  std::vector<float> singles;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::int64_t row = std::int64_t{shape.num_q_heads} * shape.head_dim_k;
    const std::vector<float> part(q.begin() + first * row, q.begin() + (first + counts[s]) * row);
    const auto one = attend(runtime, sequences[s], counts[s], part);
    singles.insert(singles.end(), one.out.begin(), one.out.end());
    first += counts[s];
  }
  EXPECT_EQ(batch.out, singles);
}

TEST(SequenceLaws, AForkMayChangeTheSelector) {
  Runtime runtime(config_with(lsh::SelectAllParams{}));
  TokenSource source(runtime.config().shape, 26);
  const std::uint64_t a = runtime.create_sequence();
  append_all_layers(runtime, a, source.tokens(1500));
  const std::uint64_t b = runtime.fork_sequence(a, -1, lsh::TopKParams{0.05});
  const auto q = source.queries(1);
  const auto all = attend(runtime, a, 1, q).stats;
  const auto few = attend(runtime, b, 1, q).stats;
  EXPECT_EQ(all.rows_gathered, all.rows_host);
  EXPECT_EQ(all.lse_error, 0.0);
  EXPECT_LE(few.rows_gathered, 2 * (few.rows_host / 20 + 2));  // a union of two heads at 5 % each
  EXPECT_EQ(few.lse_error, -1.0);
}

TEST(SequenceLaws, MemoryComesBack) {
  Runtime runtime(config_with(lsh::LshParams{8, 50, 2, 1}));
  TokenSource source(runtime.config().shape, 27);
  const auto t = source.tokens(2000);
  const auto q = source.queries(1);
  std::int64_t after_first = 0;
  for (int round = 0; round < 3; ++round) {
    const std::uint64_t s = runtime.create_sequence();
    append_all_layers(runtime, s, t);
    attend(runtime, s, 1, q);
    runtime.destroy_sequence(s);
    if (round == 0) after_first = runtime.ledger().used_bytes();
    EXPECT_EQ(runtime.ledger().used_bytes(), after_first);  // pages are kept for reuse, and reused
  }
}

}  // namespace
}  // namespace tandem::testing
