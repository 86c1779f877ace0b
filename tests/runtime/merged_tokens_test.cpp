// DMC through the runtime, against its mask form in double: whatever the chunks and the tiers.
#include <functional>
#include <limits>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/deferred_device.h"
#include "tests/support/merging_driver.h"

namespace tandem::testing {
namespace {

using gpu::DmcSource;

class MaskForm : public ::testing::TestWithParam<std::tuple<MergingCase, bool /*host tier*/, gpu::DeviceKind>> {};

INSTANTIATE_TEST_SUITE_P(
    MergedTokens, MaskForm,
    ::testing::Combine(::testing::Values(usual(), usual(DmcSource::last_neuron),
                                         MergingCase{shape_of(1, 1, 80), DmcSource::external, 0, 24, {0.5}},
                                         MergingCase{shape_of(8, 1, 96), DmcSource::last_neuron, 1, 40, {0.5}, 3},
                                         MergingCase{shape_of(8, 2, 128), DmcSource::external, 7, 33, {0.0, 1.0}},
                                         MergingCase{
                                             shape_of(2, 2, 256), DmcSource::last_neuron, 4, 16, {0.1, 0.9}, 64}),
                       ::testing::Bool(), gpu::device_kinds()));

TEST_P(MaskForm, EqualsTheRuntime) {
  const auto& [c, host_tier, device] = GetParam();
  Runtime runtime(config_of(c, host_tier), gpu::device_maker(device));
  MergingSource source(c.shape, c.form, c.merging, 61);
  ReferenceEntries reference(c.shape, c.form, c.window, kTheta);
  const std::uint64_t s = runtime.create_sequence();
  std::int64_t dropped = 0;
  for (const std::int64_t chunk : {c.local, 1, c.local - 1, c.local, c.local, 5, c.local, c.local, c.local, 1, 1, 1}) {
    const auto t = source.tokens(chunk);
    dropped += append(runtime, s, t).rows_dropped;
    reference.append(t);
    const auto q = source.queries(chunk);
    const Attended attended = attend(runtime, s, chunk, q);
    ASSERT_LT(error_of(attended, q, chunk, reference, c, host_tier), 5e-5) << reference.length();
    std::int64_t keys = 0;
    for (std::int64_t i = 0; host_tier && i < chunk * c.shape.num_q_heads; ++i) {
      const auto h = static_cast<int>(i % c.shape.num_q_heads);
      keys += std::ssize(reference.visible(h, reference.length() - chunk + i / c.shape.num_q_heads));
    }
    if (host_tier) {
      EXPECT_EQ(attended.stats.keys_attended, keys);
    }
  }
  std::int64_t most_left = 0, entries = 0, all_left = 0;
  for (std::size_t h = 0; h < c.merging.size(); ++h) {
    const std::int64_t left = left_of(reference.entries(h) - 1, c);
    most_left = std::max(most_left, left);
    all_left += left;
    entries += reference.entries(h) - left;
  }
  const SequenceInfo info = runtime.query_sequence(s, 0);
  EXPECT_GT(most_left, 0);
  EXPECT_EQ(info.length, reference.length());
  EXPECT_EQ(info.window_entries, entries);
  EXPECT_EQ(info.host_rows, host_tier ? most_left : 0);
  EXPECT_EQ(info.dropped_rows, host_tier ? 0 : most_left);
  EXPECT_EQ(dropped, host_tier ? 0 : all_left);
}

class Tiers : public ::testing::TestWithParam<std::tuple<DmcSource, bool /*host tier*/>> {};

INSTANTIATE_TEST_SUITE_P(MergedTokens, Tiers,
                         ::testing::Combine(::testing::Values(DmcSource::external, DmcSource::last_neuron),
                                            ::testing::Bool()));

TEST_P(Tiers, ChunksChangeNoBit) {
  const auto [form, host_tier] = GetParam();
  const MergingCase c = usual(form);
  Runtime runtime(config_of(c, host_tier));
  MergingSource source(c.shape, form, c.merging, 62);
  constexpr std::int64_t kTokens = 320;
  const auto t = source.tokens(kTokens);
  std::vector<std::uint64_t> sequences;
  for (const std::int64_t chunk : {1, 7, 32}) {
    const std::uint64_t s = sequences.emplace_back(runtime.create_sequence());
    for (std::int64_t done = 0; done < kTokens; done += chunk)
      append(runtime, s, part_of(t, done, std::min(chunk, kTokens - done), c.shape));
  }
  const auto q = source.queries(1);
  const auto expected = attend(runtime, sequences[0], 1, q);
  EXPECT_EQ(attend(runtime, sequences[1], 1, q).out, expected.out);
  EXPECT_EQ(attend(runtime, sequences[2], 1, q).out, expected.out);
  EXPECT_EQ(attend(runtime, sequences[2], 1, q).lse, expected.lse);
  // In the company of others, which makes tasks of other sizes.
  std::vector<float> all = q;
  all.insert(all.end(), q.begin(), q.end());
  const auto batch = attend(runtime, {sequences[1], sequences[2]}, {1, 1}, all);
  EXPECT_TRUE(std::equal(expected.out.begin(), expected.out.end(), batch.out.begin()));
  EXPECT_TRUE(std::equal(expected.out.rbegin(), expected.out.rend(), batch.out.rbegin()));
}

TEST_P(Tiers, NoTokenThatMergesIsDenseAttention) {
  const auto [form, host_tier] = GetParam();
  MergingCase c = usual(form, 64);
  c.merging = {0.0, 0.0};
  Runtime runtime(config_of(c, host_tier));
  const AttentionShape& shape = runtime.config().shape;
  MergingSource source(shape, form, c.merging, 63);
  ReferenceSequence reference(shape);
  const std::uint64_t s = runtime.create_sequence();
  const std::int64_t chunks = host_tier ? 5 : 2;  // what the window alone can hold
  for (std::int64_t i = 0; i < chunks; ++i) {
    auto t = source.tokens(64);
    append(runtime, s, t);
    for (std::int64_t row = 0; row < 64 * shape.num_kv_heads; ++row) {  // as an engine would rotate them
      float* key = t.kv.k.data() + row * shape.head_dim_k;
      if (form == DmcSource::last_neuron) key[shape.head_dim_k - 1] = 0.f;
      cpu::rotate(runtime.config().rope, shape.head_dim_k, reference.length() + row / shape.num_kv_heads, key);
      if (form == DmcSource::last_neuron) key[shape.head_dim_k - 1] = 0.f;
    }
    reference.append(t.kv.k, t.kv.v);
    const auto q = source.queries(64);
    EXPECT_LT(worst_error(attend(runtime, s, 64, q), q, 64, reference, shape).out, 2e-5);
  }
  EXPECT_EQ(runtime.query_sequence(s, 0).window_entries + 2 * runtime.query_sequence(s, 0).host_rows,
            2 * reference.length());
}

/// Selectors that take every row one way or another see each entry once.
TEST(MergedTokens, SelectorsOfAllRowsAreExact) {
  const MergingCase c = usual();
  for (const lsh::SelectorParams& selector :
       {lsh::SelectorParams(lsh::TopKParams{1.0}), lsh::SelectorParams(lsh::LshParams{1, 100, 1, 5})}) {
    Runtime runtime(config_of(c, true, selector));
    MergingSource source(c.shape, c.form, c.merging, 64);
    ReferenceEntries reference(c.shape, c.form, c.window, kTheta);
    const std::uint64_t s = runtime.create_sequence();
    for (int i = 0; i < 20; ++i) {
      const auto t = source.tokens(32);
      append(runtime, s, t);
      reference.append(t);
      const auto q = source.queries(3);
      ASSERT_LT(error_of(attend(runtime, s, 3, q), q, 3, reference, c, true), 1e-3) << i;
    }
    EXPECT_GT(runtime.query_sequence(s, 0).host_rows, 0);
  }
}

TEST_P(Tiers, EntriesMayBeCoded) {
  const auto [form, host_tier] = GetParam();
  const MergingCase c = usual(form, 96);
  Config config = config_of(c, host_tier);
  config.window.codec.kind = cpu::CodecKind::int8;
  config.window.residual_tokens = 32;
  Runtime runtime(config);
  MergingSource source(c.shape, form, c.merging, 74);
  ReferenceEntries reference(c.shape, form, c.window, kTheta);
  const std::uint64_t s = runtime.create_sequence();
  EXPECT_THAT(message_of([&] { append(runtime, s, source.tokens(33)); }),
              ::testing::HasSubstr("up to 32 at a time (residual_tokens)"));
  const std::int64_t prompt = host_tier ? 480 : 160;  // all that the window alone is sure to hold
  while (reference.length() < prompt) {
    const auto t = source.tokens(32);
    append(runtime, s, t);
    reference.append(t);
    const auto q = source.queries(32);
    ASSERT_LT(error_of(attend(runtime, s, 32, q), q, 32, reference, c, true), 0.03) << reference.length();
  }
  EXPECT_GT(runtime.query_sequence(s, 0).coded_rows, 0);
  EXPECT_EQ(runtime.query_sequence(s, 0).dropped_rows, 0);
}

/// Rotation may make an element of a key larger than both of its pair.
TEST(MergedTokens, KeysThatOverflowWhenRotatedAreRefused) {
  MergingCase c = usual();
  Config config = config_of(c, true);
  config.window.dtype = DType::f16;
  Runtime runtime(config);
  MergingSource source(c.shape, c.form, c.merging, 75);
  const std::uint64_t s = runtime.create_sequence();
  auto t = source.tokens(2);
  std::fill(t.kv.k.begin(), t.kv.k.end(), 60000.f);
  EXPECT_THAT(message_of([&] { append(runtime, s, t); }), ::testing::HasSubstr("k holds a value too large to store"));
  std::fill(t.kv.k.begin(), t.kv.k.end(), 40000.f);
  append(runtime, s, t);
  append(runtime, s, source.tokens(8));
  for (const float x : attend(runtime, s, 1, source.queries(1)).out) EXPECT_TRUE(std::isfinite(x));
}

TEST(MergedTokens, NoTokenAndOneToken) {
  for (const auto source_of_decisions : {gpu::DmcSource::external, gpu::DmcSource::last_neuron}) {
    Config config;
    config.shape = resolved({1, 4, 2, 64, 64, 0.f, 0.f});
    config.window = {0, 32, DType::f32};
    config.window.merge.emplace();
    config.window.merge->source = source_of_decisions;
    config.rope.theta = 1e4;
    Runtime runtime(config);
    TokenSource source(config.shape, 93);
    const std::uint64_t s = runtime.create_sequence();
    append(runtime, s, {}, {});
    EXPECT_TRUE(attend(runtime, s, 0, {}).out.empty());
    const auto t = source.tokens(1);
    const auto q = source.queries(1);
    PolicyInput input;
    if (source_of_decisions == gpu::DmcSource::external) {
      input.merge = input.importance = {1.f, 1.f};
    } else {
      input.q = q;
    }
    append(runtime, s, t.k, t.v, 0, input);
    append(runtime, s, {}, {});  // takes no token's own entry away
    const auto out = attend(runtime, s, 1, q).out;
    for (std::size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(out[i], t.v[i / 128 * 64 + i % 64], 1e-6) << "one key gets all attention";
    EXPECT_EQ(runtime.query_sequence(s, 0).window_entries, 2) << "an open entry of each head";
  }
}

TEST(MergedTokens, HeadsTakeTheMemoryOfTheirEntries) {
  for (const bool common : {false, true}) {
    MergingCase c = usual(DmcSource::external, 500);
    c.merging = {0.0, 0.9};
    Config config = config_of(c, true);
    config.window.common_length = common;
    Runtime runtime(config);
    const std::int64_t row_bytes = cpu::RowLayout::of(runtime.config().shape, DType::f32).row_bytes;
    MergingSource source(c.shape, c.form, c.merging, 69);
    ReferenceEntries reference(c.shape, c.form, c.window, kTheta);
    const std::uint64_t s = runtime.create_sequence();
    EXPECT_EQ(runtime.query_sequence(s, 0).window_bytes, 0);
    for (int i = 0; i < 40; ++i) {
      const auto t = source.tokens(10);
      append(runtime, s, t);
      reference.append(t);
      const auto bytes_of = [&](std::size_t h) { return (reference.entries(h) - 1 + 63) / 64 * 64 * row_bytes; };
      const std::int64_t most = std::max(bytes_of(0), bytes_of(1));
      const std::int64_t fork_bytes =
          runtime.query_sequence(runtime.fork_sequence(s, -1, std::nullopt), 0).window_bytes;
      EXPECT_EQ(runtime.query_sequence(s, 0).window_bytes, common ? 2 * most : bytes_of(0) + bytes_of(1)) << i;
      EXPECT_EQ(fork_bytes, runtime.query_sequence(s, 0).window_bytes);
    }
    EXPECT_LT(reference.entries(1), reference.entries(0) / 4);
  }
}

TEST(MergedTokens, BadInputIsRefusedAndChangesNothing) {
  for (const DmcSource form : {DmcSource::external, DmcSource::last_neuron}) {
    const MergingCase c = usual(form);
    Runtime runtime(config_of(c, true));
    MergingSource source(c.shape, form, c.merging, 70);
    const std::uint64_t s = runtime.create_sequence();
    for (int i = 0; i < 5; ++i) append(runtime, s, source.tokens(32));
    const auto q = source.queries(2);
    const auto before = attend(runtime, s, 2, q).out;
    const auto refusal = [&](const std::function<void(MergingTokens&)>& spoil, std::int64_t tokens = 3) {
      auto t = source.tokens(tokens);
      spoil(t);
      return message_of([&] { append(runtime, s, t); });
    };
    const float nan = std::numeric_limits<float>::quiet_NaN();
    if (form == DmcSource::external) {
      EXPECT_EQ(refusal([](auto& t) { t.input.merge.clear(); }), "merge is NULL; the window_policy dmc needs it");
      EXPECT_EQ(refusal([](auto& t) { t.input.importance.clear(); }),
                "importance is NULL; the window_policy dmc needs it");
      EXPECT_EQ(refusal([&](auto& t) { t.input.merge[3] = nan; }),
                "merge is nan for token 1, KV head 1; every value must be finite");
      EXPECT_EQ(refusal([&](auto& t) { t.input.importance[4] = -1 / 0.f; }),
                "importance is -inf for token 2, KV head 0; every value must be finite");
      EXPECT_EQ(refusal([](auto& t) { t.input.keep = t.input.merge; }),
                "keep is given; the window_policy dmc takes none");
    } else {
      EXPECT_THAT(refusal([](auto& t) { t.input.q.clear(); }), ::testing::HasSubstr("q is missing; "));
      EXPECT_EQ(refusal([](auto& t) { t.input.merge.assign(6, 0.f); }),
                "merge is given; the window_policy dmc takes none");
      EXPECT_THAT(refusal([&](auto& t) { t.input.q[5] = nan; }), ::testing::HasSubstr("q holds NaN"));
    }
    EXPECT_THAT(refusal([](auto&) {}, 33), ::testing::AllOf(::testing::HasSubstr("num_tokens[0] is 33; "),
                                                            ::testing::HasSubstr("up to 32 at a time (local_tokens)")));
    EXPECT_EQ(runtime.query_sequence(s, 0).length, 160);
    EXPECT_EQ(attend(runtime, s, 2, q).out, before);
  }
}

TEST(MergedTokens, AttentionThatNeedsSingleTokensIsRefused) {
  const MergingCase c = usual();
  Runtime runtime(config_of(c, true));
  MergingSource source(c.shape, c.form, c.merging, 71);
  const std::uint64_t s = runtime.create_sequence();
  append(runtime, s, source.tokens(32));
  append(runtime, s, source.tokens(3));
  const auto q = source.queries(4);
  AttendOptions sliding, alibi;
  sliding.rule.sliding_window = 8;
  alibi.rule.alibi.assign(4, 0.1f);
  const auto one = source.queries(1);
  EXPECT_THAT(message_of([&] { attend(runtime, s, 1, one, sliding); }),
              ::testing::HasSubstr("sliding_window and alibi"));
  EXPECT_THAT(message_of([&] { attend(runtime, s, 1, one, alibi); }), ::testing::HasSubstr("sliding_window and alibi"));
  EXPECT_THAT(message_of([&] { attend(runtime, s, 4, q); }),
              ::testing::HasSubstr("num_queries[0] is 4; with window_policy dmc queries belong to the 3 tokens"));
  const std::uint64_t fork = runtime.fork_sequence(s, 34, std::nullopt);
  EXPECT_THAT(message_of([&] { attend(runtime, fork, 1, one); }), ::testing::HasSubstr("belong to the 0 tokens"));
  Config config = config_of(c, true);
  config.rope.theta = 0;
  EXPECT_THAT(message_of([&] { Runtime{config}; }),
              ::testing::HasSubstr("window_policy dmc needs rope_theta, which is 0"));
}

}  // namespace
}  // namespace tandem::testing
