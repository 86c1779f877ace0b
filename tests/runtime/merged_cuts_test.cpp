// Cuts and forks where DMC merges tokens: as if never longer, within the rollback and what is held.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/merging_driver.h"

namespace tandem::testing {
namespace {

using gpu::DmcSource;

TEST(MergedCuts, ACutWithinTheRollbackIsAsIfNeverLonger) {
  for (const DmcSource form : {DmcSource::external, DmcSource::last_neuron}) {
    const MergingCase c = usual(form);
    Runtime runtime(config_of(c, true));
    MergingSource source(c.shape, form, c.merging, 65);
    constexpr std::int64_t kTokens = 300, kRollback = 16;
    const auto t = source.tokens(kTokens);
    const auto q = source.queries(1);
    const std::uint64_t whole = runtime.create_sequence();
    std::vector<std::uint64_t> shorter{whole};  // by length
    int came_back = 0;                          // cuts after which the host tier had fewer entries
    for (std::int64_t length = 1; length < kTokens; ++length) {
      append(runtime, whole, part_of(t, length - 1, 1, c.shape));
      shorter.push_back(runtime.fork_sequence(whole, -1, std::nullopt));
      const std::int64_t back = 1 + length % kRollback;
      if (back >= length) continue;
      const std::uint64_t never =
          runtime.fork_sequence(shorter[static_cast<std::size_t>(length - back)], -1, std::nullopt);
      const std::uint64_t cut = runtime.fork_sequence(whole, -1, std::nullopt);
      runtime.truncate_sequence(cut, length - back);
      const std::uint64_t fork = runtime.fork_sequence(whole, length - back, std::nullopt);
      for (const std::uint64_t s : {never, cut, fork}) append(runtime, s, part_of(t, length - back, 1, c.shape));
      const auto expected = attend(runtime, never, 1, q);
      ASSERT_EQ(attend(runtime, cut, 1, q).out, expected.out) << length << " - " << back;
      ASSERT_EQ(attend(runtime, fork, 1, q).out, expected.out) << length << " - " << back;
      ASSERT_EQ(runtime.query_sequence(cut, 0).window_entries, runtime.query_sequence(never, 0).window_entries);
      came_back += runtime.query_sequence(whole, 0).host_rows > runtime.query_sequence(cut, 0).host_rows ? 1 : 0;
      for (const std::uint64_t s : {never, cut, fork}) runtime.destroy_sequence(s);
      if (length > kRollback) runtime.destroy_sequence(shorter[static_cast<std::size_t>(length - kRollback)]);
    }
    EXPECT_GT(came_back, 5);
  }
}

/// Entries that return from the host tier take the slots of later ones, not what was said of these.
TEST(MergedCuts, EntriesThatComeBackAreSeenByEveryQuery) {
  MergingCase c = usual(DmcSource::external, 8);
  c.sinks = 0;
  c.merging = {0.0, 0.0};
  Runtime runtime(config_of(c, true));
  MergingSource source(c.shape, c.form, c.merging, 73);
  const auto t = source.tokens(80);
  const std::uint64_t cut = runtime.create_sequence(), never = runtime.create_sequence();
  for (std::int64_t i = 0; i < 76; ++i) append(runtime, cut, part_of(t, i, 1, c.shape));
  ASSERT_EQ(runtime.query_sequence(cut, 0).host_rows, 64);
  runtime.truncate_sequence(cut, 60);
  ASSERT_EQ(runtime.query_sequence(cut, 0).host_rows, 0);
  for (std::int64_t i = 0; i < 60; ++i) append(runtime, never, part_of(t, i, 1, c.shape));
  for (const std::uint64_t s : {cut, never}) append(runtime, s, part_of(t, 60, 5, c.shape));
  const auto q = source.queries(5);
  EXPECT_EQ(attend(runtime, cut, 5, q).out, attend(runtime, never, 5, q).out);
}

TEST(MergedCuts, ACutWithoutAHostTierKeepsWhatIsHeld) {
  const MergingCase c = usual();
  Runtime runtime(config_of(c, false));
  MergingSource source(c.shape, c.form, c.merging, 72);
  constexpr std::int64_t kTokens = 300;
  const auto t = source.tokens(kTokens);
  const std::uint64_t s = runtime.create_sequence();
  ReferenceEntries whole(c.shape, c.form, c.window, kTheta);
  for (std::int64_t length = 1; length < kTokens; ++length) {
    const auto token = part_of(t, length - 1, 1, c.shape);
    append(runtime, s, token);
    whole.append(token);
    const std::int64_t cut_length = length - 1 - length % 16;
    if (length < 150 || cut_length % 3 != 0) continue;
    const std::uint64_t cut = runtime.fork_sequence(s, cut_length, std::nullopt);
    ReferenceEntries reference(c.shape, c.form, c.window, kTheta);
    for (const auto& part : {part_of(t, 0, cut_length, c.shape), token}) reference.append(part);
    append(runtime, cut, token);
    const auto q = source.queries(1);
    const Attended attended = attend(runtime, cut, 1, q);
    for (int h = 0; h < c.shape.num_q_heads; ++h) {
      const std::int64_t left = left_of(whole.entries(static_cast<std::size_t>(h / 2)) - 1, c);
      const auto expected = reference.attend(q.data() + h * c.shape.head_dim_k, h, cut_length, c.sinks, c.sinks + left);
      ASSERT_LT(relative_error(attended.out.data() + h * c.shape.head_dim_v, expected.out), 5e-5) << length;
    }
    runtime.destroy_sequence(cut);
  }
  EXPECT_GT(runtime.query_sequence(s, 0).dropped_rows, 64);
}

TEST(MergedCuts, ACutToNothingIsANewSequence) {
  for (const bool host_tier : {false, true}) {
    const MergingCase c = usual();
    Runtime runtime(config_of(c, host_tier));
    MergingSource source(c.shape, c.form, c.merging, 66);
    const std::uint64_t cut = runtime.create_sequence();
    for (int i = 0; i < 12; ++i) append(runtime, cut, source.tokens(32));
    runtime.truncate_sequence(cut, 0);
    const std::uint64_t fresh = runtime.create_sequence();
    const auto t = source.tokens(32);
    const auto q = source.queries(32);
    append(runtime, cut, t);
    append(runtime, fresh, t);
    EXPECT_EQ(attend(runtime, cut, 32, q).out, attend(runtime, fresh, 32, q).out);
  }
}

TEST(MergedCuts, ACutBeyondTheRollbackIsRefused) {
  const MergingCase c = usual();
  Runtime runtime(config_of(c, true));
  MergingSource source(c.shape, c.form, c.merging, 67);
  const std::uint64_t s = runtime.create_sequence();
  for (int i = 0; i < 10; ++i) append(runtime, s, source.tokens(32));
  const auto q = source.queries(1);
  const auto before = attend(runtime, s, 1, q).out;
  const auto refused = ::testing::AllOf(::testing::HasSubstr("num_tokens is 200; "), ::testing::HasSubstr("are merged"),
                                        ::testing::HasSubstr("but 0"));
  EXPECT_THAT(message_of([&] { runtime.truncate_sequence(s, 200); }), refused);
  EXPECT_THAT(message_of([&] { runtime.fork_sequence(s, 200, std::nullopt); }), refused);
  EXPECT_EQ(attend(runtime, s, 1, q).out, before);
}

/// A small window may have dropped entries that a cut within the rollback needs.
TEST(MergedCuts, ACutThatNeedsLostEntriesIsRefused) {
  MergingCase c = usual(DmcSource::external, 2);
  c.sinks = 0;
  c.merging = {0.0, 0.0};
  Runtime runtime(config_of(c, false));
  MergingSource source(c.shape, c.form, c.merging, 68);
  const std::uint64_t s = runtime.create_sequence();
  while (runtime.query_sequence(s, 0).dropped_rows == 0) append(runtime, s, source.tokens(1));
  const std::int64_t length = runtime.query_sequence(s, 0).length;
  ASSERT_EQ(length, 2 + 64 + 2);  // one more entered than fit, and one is open
  EXPECT_THAT(message_of([&] { runtime.truncate_sequence(s, length - 10); }),
              ::testing::HasSubstr("num_tokens is 58; without a host tier"));
  runtime.truncate_sequence(s, length - 2);
  append(runtime, s, source.tokens(1));
  attend(runtime, s, 1, source.queries(1));
}

}  // namespace
}  // namespace tandem::testing
