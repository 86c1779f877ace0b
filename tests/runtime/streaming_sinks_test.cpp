// StreamingLLM through the runtime, against keys before RoPE that are rotated by where they lie in the cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/rope.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

struct Case {
  AttentionShape shape;
  std::int32_t sinks, local;
  cpu::RopeParams rope;
};

constexpr AttentionShape shape_of(int q_heads, int kv_heads, int dim) {
  return {1, q_heads, kv_heads, dim, dim, 0.f, 0.f};
}

Config config_of(const Case& c) {
  Config config;
  config.shape = resolved(c.shape);
  config.window = {c.sinks, c.local, DType::f32};
  config.window.compact_sinks = true;
  config.rope = c.rope;
  config.host_tier = false;
  config.num_workers = 2;
  return config;
}

/// Rows of (tokens, heads, dim) from token `first` on, each turned by its position.
void rotate_all(const cpu::RopeParams& rope, std::vector<float>& x, std::int64_t first, std::int64_t heads,
                std::int32_t dim) {
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(x.size()) / dim; ++row)
    cpu::rotate(rope, dim, first + row / heads, x.data() + row * dim);
}

class SlotPositions : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(StreamingSinks, SlotPositions,
                         ::testing::Values(Case{shape_of(2, 2, 64), 4, 30, {10000.0, 0, false}},
                                           Case{shape_of(4, 2, 80), 1, 64, {500000.0, 32, false}},
                                           Case{shape_of(4, 1, 96), 7, 1, {10000.0, 0, true}},
                                           Case{shape_of(8, 1, 128), 2, 100, {10000.0, 0, false}},
                                           Case{shape_of(1, 1, 256), 0, 33, {10000.0, 64, true}}));

TEST_P(SlotPositions, EqualTheRuntime) {
  const Case& c = GetParam();
  Runtime runtime(config_of(c));
  const AttentionShape& shape = runtime.config().shape;
  const std::int32_t dim = shape.head_dim_k;
  TokenSource source(shape, 101);
  TokenSource::Tokens all;  // keys before RoPE
  std::int64_t length = 0, most_left = 0;
  const std::uint64_t s = runtime.create_sequence();
  const auto take = [&](std::int64_t tokens) {
    auto t = source.tokens(tokens);
    all.k.insert(all.k.end(), t.k.begin(), t.k.end());
    all.v.insert(all.v.end(), t.v.begin(), t.v.end());
    rotate_all(c.rope, t.k, length, shape.num_kv_heads, dim);
    append(runtime, s, t.k, t.v);
    length += tokens;
  };
  for (const std::int64_t chunk : {3, 50, 64, 1, 40, 1, 1, 129, 1, 60, 2, 200, 1}) {
    take(chunk);
    const std::int64_t excess = length - c.sinks - c.local - 64;
    const std::int64_t left = excess <= 0 ? 0 : (excess + 63) / 64 * 64;
    most_left = std::max(most_left, left);
    // What is held, in its order, the keys rotated by slot.
    ReferenceSequence cache(shape);
    const auto sinks = slice(all, 0, std::min<std::int64_t>(c.sinks, length), shape);
    auto recents =
        slice(all, std::min(length, c.sinks + left), std::max<std::int64_t>(0, length - c.sinks - left), shape);
    std::vector<float> keys = sinks.k, values = sinks.v;
    keys.insert(keys.end(), recents.k.begin(), recents.k.end());
    values.insert(values.end(), recents.v.begin(), recents.v.end());
    rotate_all(c.rope, keys, 0, shape.num_kv_heads, dim);
    cache.append(keys, values);
    const std::int64_t queries = left == 0 ? chunk : std::min<std::int64_t>(chunk, length - c.sinks - left);
    const auto q = source.queries(queries);
    auto q_at_slots = q, q_in_text = q;
    rotate_all(c.rope, q_at_slots, cache.length() - queries, shape.num_q_heads, dim);
    rotate_all(c.rope, q_in_text, length - queries, shape.num_q_heads, dim);
    const Attended attended = attend(runtime, s, queries, q_in_text);
    const WorstError worst = worst_error(attended, q_at_slots, queries, cache, shape);
    ASSERT_LT(worst.out, 5e-5) << length;
    ASSERT_LT(worst.lse, 5e-5) << length;
    EXPECT_EQ(runtime.query_sequence(s, 0).dropped_rows, left);
    EXPECT_EQ(runtime.query_sequence(s, 0).window_rows, cache.length());
  }
  EXPECT_GT(most_left, 300);
}

TEST(StreamingSinks, OnlyTheSinksAreTurned) {
  const Case c{shape_of(2, 1, 64), 0, 30, {10000.0, 0, false}};
  Config config = config_of(c);
  Runtime compact(config);
  config.window.compact_sinks = false;
  Runtime plain(config);
  TokenSource source(compact.config().shape, 102);
  const auto t = source.tokens(300);
  const auto q = source.queries(1);
  const std::uint64_t a = compact.create_sequence(), b = plain.create_sequence();
  append(compact, a, t.k, t.v);
  append(plain, b, t.k, t.v);
  EXPECT_EQ(attend(compact, a, 1, q).out, attend(plain, b, 1, q).out);
}

TEST(StreamingSinks, NeedRopeAndNoHostTier) {
  const Case c{shape_of(2, 1, 64), 4, 30, {10000.0, 0, false}};
  const auto message = [](const Config& config) { return message_of([&] { Runtime{config}; }); };
  Config config = config_of(c);
  config.rope.theta = 0;
  EXPECT_THAT(message(config), ::testing::HasSubstr("compact_sinks needs rope_theta, which is 0"));
  config = config_of(c);
  config.host_tier = true;
  EXPECT_THAT(message(config), ::testing::HasSubstr("compact_sinks is set and host_tier is on"));
  config = config_of(c);
  config.window.policy = gpu::HeavyHitters{5};
  EXPECT_THAT(message(config), ::testing::HasSubstr("compact_sinks is set; only the policy 'latest' has it"));
  EXPECT_EQ(message(config_of(c)), "no error");
}

}  // namespace
}  // namespace tandem::testing
