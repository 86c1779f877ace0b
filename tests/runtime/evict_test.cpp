// Tokens that are dropped from the middle of a sequence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

Config config_of(DType host_dtype, bool coded) {
  Config config;
  config.shape = resolved({2, 4, 2, 32, 48, 0.f, 0.f});
  config.window = {4, 256, DType::f32};
  if (coded) config.window.codec.kind = cpu::CodecKind::int8;
  config.host_dtype = host_dtype;
  config.num_workers = 2;
  return config;
}

struct Case {
  std::int64_t length, first, count;
};

class Evict : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Ranges, Evict,
                         ::testing::Values(Case{1500, 600, 300},   // in the host tier
                                           Case{1500, 0, 10},      // sinks
                                           Case{1500, 2, 1000},    // sinks and the host tier
                                           Case{1500, 1200, 200},  // from the host tier into the window
                                           Case{1500, 1400, 50},   // in the window
                                           Case{1500, 1000, 500},  // up to the end
                                           Case{1500, 0, 1500},    // everything
                                           Case{100, 50, 20},      // of a window that is not full
                                           Case{1500, 1500, 0}, Case{1500, 3, 0}));

TEST_P(Evict, LeavesWhatWouldBeThereWithoutThem) {
  const auto [length, first, count] = GetParam();
  for (const bool coded : {false, true}) {
    const Config config = config_of(DType::f32, coded);
    Runtime runtime(config);
    TokenSource source(config.shape, 5);
    const std::uint64_t evicted = runtime.create_sequence(), never = runtime.create_sequence();
    for (const std::int32_t layer : {0, 1}) {
      const auto all = source.tokens(length);
      append(runtime, evicted, all.k, all.v, layer);
      for (const auto& [begin, n] : {std::pair{std::int64_t{0}, first}, {first + count, length - first - count}}) {
        const auto part = slice(all, begin, n, config.shape);
        append(runtime, never, part.k, part.v, layer);
      }
    }
    runtime.evict_tokens(evicted, first, count);
    for (const std::int32_t layer : {0, 1}) {
      EXPECT_EQ(runtime.query_sequence(evicted, layer).length, length - count);
      const auto more = source.tokens(70);  // it goes on like any other
      append(runtime, evicted, more.k, more.v, layer);
      append(runtime, never, more.k, more.v, layer);
      const SequenceInfo a = runtime.query_sequence(evicted, layer), b = runtime.query_sequence(never, layer);
      EXPECT_EQ(a.window_rows, b.window_rows);
      EXPECT_EQ(a.host_rows, b.host_rows);
      const auto q = source.queries(3);
      AttendOptions options;
      options.layer = layer;
      const Attended got = attend(runtime, evicted, 3, q, options), expected = attend(runtime, never, 3, q, options);
      EXPECT_EQ(got.out, expected.out) << layer << coded;
      EXPECT_EQ(got.lse, expected.lse) << layer << coded;
    }
  }
}

TEST(EvictTokens, BadRangesChangeNothing) {
  const Config config = config_of(DType::f16, false);
  Runtime runtime(config);
  TokenSource source(config.shape, 5, DType::f16);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto tokens = source.tokens(700);
  append(runtime, sequence, tokens.k, tokens.v, 0);
  EXPECT_THAT(message_of([&] { runtime.evict_tokens(sequence, 0, 1); }),
              ::testing::HasSubstr("has 700 tokens in layer 0 and 0 in layer 1; they must be as many"));
  append(runtime, sequence, tokens.k, tokens.v, 1);
  const auto q = source.queries(1);
  const Attended before = attend(runtime, sequence, 1, q);
  EXPECT_EQ(message_of([&] { runtime.evict_tokens(sequence, -1, 1); }),
            "first is -1; allowed: 0 to 700, the length of sequence 1");
  EXPECT_EQ(message_of([&] { runtime.evict_tokens(sequence, 701, 0); }),
            "first is 701; allowed: 0 to 700, the length of sequence 1");
  EXPECT_EQ(message_of([&] { runtime.evict_tokens(sequence, 600, 101); }),
            "num_tokens is 101; allowed: 0 to 100, the tokens of sequence 1 from 600 on");
  EXPECT_THAT(message_of([&] { runtime.evict_tokens(99, 0, 1); }), ::testing::HasSubstr("sequence 99 does not exist"));
  EXPECT_EQ(attend(runtime, sequence, 1, q).out, before.out);
  Config without = config;
  without.host_tier = false;
  Runtime alone(without);
  const std::uint64_t lost = alone.create_sequence();
  EXPECT_THAT(message_of([&] { alone.evict_tokens(lost, 0, 0); }), ::testing::HasSubstr("with a host tier"));
}

TEST(EvictTokens, ASketchGoesOnWhereTokensBeforeTheGapHaveOne) {
  Config config = config_of(DType::f32, false);
  config.shape = resolved({1, 4, 2, 32, 48, 0.f, 0.f});
  lsh::SketchParams sketch;
  sketch.budget = 0.1;
  config.selector = sketch;
  config.never_slower = false;
  Runtime runtime(config);
  TokenSource source(config.shape, 5);
  const std::uint64_t sequence = runtime.create_sequence();
  ReferenceSequence reference(config.shape);
  const auto all = [&] {
    auto tokens = source.tokens(4000);
    for (float& x : tokens.v) x += 0.5f;  // else their mean is so short that every error is large
    return tokens;
  }();
  append(runtime, sequence, all.k, all.v);
  const auto steps = [&](int count) {
    Attended last;
    std::vector<float> q;
    for (int i = 0; i < count; ++i) {
      auto token = source.tokens(1);
      for (float& x : token.v) x += 0.5f;
      append(runtime, sequence, token.k, token.v);
      reference.append(token.k, token.v);
      q = source.queries(1);
      last = attend(runtime, sequence, 1, q);
    }
    EXPECT_LT(worst_error(last, q, 1, reference, config.shape).out, 0.3);
    return last.stats.rows_gathered;
  };
  reference.append(all.k, all.v);
  EXPECT_LT(steps(40), 2 * 4000 / 4);
  const auto evict = [&](std::int64_t first, std::int64_t count) {
    runtime.evict_tokens(sequence, first, count);
    ReferenceSequence left(config.shape);
    for (std::int64_t p = 0; p < reference.length(); ++p) {
      if (p >= first && p < first + count) continue;
      std::vector<float> k, v;
      for (std::int64_t head = 0; head < 2; ++head) {
        k.insert(k.end(), reference.key(p, head), reference.key(p, head) + 32);
        v.insert(v.end(), reference.value(p, head), reference.value(p, head) + 48);
      }
      left.append(k, v);
    }
    reference = left;
  };
  evict(500, 1000);
  EXPECT_LT(steps(1), 2 * 3000 / 4);  // the sketch of the tokens before the gap goes on
  evict(4, 200);
  EXPECT_GT(steps(1), 2 * 2000);  // it has gone with its tokens
  EXPECT_LT(steps(40), 2 * 2900 / 4);
}

TEST(EvictTokens, WithoutMemoryNothingChanges) {
  Config config = config_of(DType::f32, false);
  config.host_memory_bytes = 10 << 20;
  Runtime runtime(config);
  TokenSource source(config.shape, 5);
  const std::uint64_t sequence = runtime.create_sequence();
  for (const std::int32_t layer : {0, 1}) {
    const auto tokens = source.tokens(4200);
    append(runtime, sequence, tokens.k, tokens.v, layer);
  }
  const auto q = source.queries(1);
  const Attended before = attend(runtime, sequence, 1, q);
  const std::int64_t used = runtime.ledger().used_bytes();
  EXPECT_THROW(runtime.evict_tokens(sequence, 100, 1), Error);
  EXPECT_EQ(attend(runtime, sequence, 1, q).out, before.out);
  EXPECT_LE(runtime.ledger().used_bytes(), used + (1 << 20));  // pools keep what they were given
  EXPECT_EQ(runtime.query_sequence(sequence, 0).length, 4200);
}

}  // namespace
}  // namespace tandem::testing
