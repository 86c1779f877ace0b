// Exact attention over many ranges of host rows: right, and the same bits however it is cut.
#include <gtest/gtest.h>

#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

constexpr std::int64_t kTokens = 5 * kRangeRows + 700;

Config config_of(int workers) {
  Config config;
  config.shape = resolved({1, 4, 2, 16, 16, 0.f, 0.f});
  config.window = {4, 64, DType::f32};
  config.num_workers = workers;
  return config;
}

std::uint64_t long_sequence(Runtime& runtime, ReferenceSequence* reference = nullptr, std::int64_t tokens = kTokens) {
  TokenSource source(runtime.config().shape, 77);
  const auto t = source.tokens(tokens);
  const std::uint64_t sequence = runtime.create_sequence();
  append(runtime, sequence, t.k, t.v);
  if (reference != nullptr) reference->append(t.k, t.v);
  return sequence;
}

std::vector<float> queries_of(const Runtime& runtime, std::int64_t count) {
  return TokenSource(runtime.config().shape, 78).queries(count);
}

TEST(ExactAttention, ManyRangesAreDenseAttention) {
  Runtime runtime(config_of(2));
  ReferenceSequence reference(runtime.config().shape);
  const std::uint64_t sequence = long_sequence(runtime, &reference);
  for (const std::int64_t sliding : {std::int64_t{0}, 2 * kRangeRows + 5}) {
    AttendOptions options;
    options.rule.sliding_window = sliding;
    const auto q = queries_of(runtime, 3);
    const auto worst =
        worst_error(attend(runtime, sequence, 3, q, options), q, 3, reference, runtime.config().shape, options.rule);
    EXPECT_LT(worst.out, 2e-5);
    EXPECT_LT(worst.lse, 2e-5);
  }
}

TEST(ExactAttention, BitsDoNotDependOnTheNumberOfWorkers) {
  Runtime alone(config_of(1));
  const std::uint64_t sequence = long_sequence(alone);
  const auto q = queries_of(alone, 40);
  for (const std::int64_t sliding : {std::int64_t{0}, 3 * kRangeRows}) {
    AttendOptions options;
    options.rule.sliding_window = sliding;
    for (const std::int64_t count : {1, 40}) {
      const std::vector<float> some(q.begin(), q.begin() + count * 4 * 16);
      const auto expected = attend(alone, sequence, count, some, options);
      for (const int workers : {2, 3, 4}) {
        Runtime runtime(config_of(workers));
        const auto attended = attend(runtime, long_sequence(runtime), count, some, options);
        EXPECT_EQ(attended.out, expected.out) << workers;
        EXPECT_EQ(attended.lse, expected.lse) << workers;
        EXPECT_EQ(attended.stats.rows_host, expected.stats.rows_host);
        EXPECT_EQ(attended.stats.keys_attended, expected.stats.keys_attended);
        EXPECT_EQ(attended.stats.keys_visible, expected.stats.keys_visible);
      }
    }
  }
}

TEST(ExactAttention, BitsDoNotDependOnTheQueriesThatShareACall) {
  Runtime runtime(config_of(2));
  const std::uint64_t sequence = long_sequence(runtime);
  const auto q = queries_of(runtime, 40);
  const auto together = attend(runtime, sequence, 40, q);
  const auto last = attend(runtime, sequence, 1, {q.end() - 4 * 16, q.end()});
  EXPECT_EQ(std::vector<float>(together.out.end() - 4 * 16, together.out.end()), last.out);
  EXPECT_EQ(std::vector<float>(together.lse.end() - 4, together.lse.end()), last.lse);
}

TEST(ExactAttention, BitsDoNotDependOnTheSequencesThatShareACall) {
  Runtime runtime(config_of(3));
  const auto q = queries_of(runtime, 3);
  std::vector<std::uint64_t> sequences;
  std::vector<std::vector<float>> outs;
  for (const std::int64_t tokens : {std::int64_t{90}, kTokens, 2 * kRangeRows}) {
    sequences.push_back(long_sequence(runtime, nullptr, tokens));
    const auto* first = q.data() + (sequences.size() - 1) * 4 * 16;
    outs.push_back(attend(runtime, sequences.back(), 1, {first, first + 4 * 16}).out);
  }
  const auto together = attend(runtime, sequences, {1, 1, 1}, q);
  for (std::size_t s = 0; s < 3; ++s) {
    const auto begin = together.out.begin() + static_cast<std::ptrdiff_t>(s * 4 * 16);
    EXPECT_EQ(std::vector<float>(begin, begin + 4 * 16), outs[s]) << s;
  }
}

}  // namespace
}  // namespace tandem::testing
