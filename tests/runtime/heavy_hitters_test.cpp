// H2O through the runtime, against the greedy rule in double that sees the same tokens and queries.
#include <gtest/gtest.h>

#include "tests/support/reference_window.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

struct Case {
  AttentionShape shape;
  std::int32_t sinks, local, page, kept;
  std::vector<std::int64_t> chunks;  ///< of the prompt; then single tokens
  bool host_tier = false;
};

Config config_of(const Case& c) {
  Config config;
  config.shape = resolved(c.shape);
  config.window.sink_tokens = c.sinks;
  config.window.local_tokens = c.local;
  config.window.page_tokens = c.page;
  config.window.policy = gpu::HeavyHitters{c.kept};
  config.host_tier = c.host_tier;
  config.num_workers = 2;
  return config;
}

/// The runtime and its reference, side by side.
class SideBySide {
 public:
  explicit SideBySide(const Case& c, std::uint64_t seed = 41)
      : runtime_(config_of(c)),
        shape_(runtime_.config().shape),
        source_(shape_, seed, DType::f32, 1.5),
        sequence_(runtime_.create_sequence()),
        reference_(shape_),
        heads_(static_cast<std::size_t>(shape_.num_kv_heads), ReferenceWindow({c.sinks, c.local, c.page, c.kept})) {}

  void append(std::int64_t tokens) {
    const auto t = source_.tokens(tokens);
    dropped_ += testing::append(runtime_, sequence_, t.k, t.v).rows_dropped;
    reference_.append(t.k, t.v);
    for (ReferenceWindow& head : heads_) {
      for (std::int64_t i = 0; i < tokens; ++i) head.append();
    }
  }
  /// Within the tokens that have not left.
  void truncate(std::int64_t length) {
    runtime_.truncate_sequence(sequence_, length);
    reference_.truncate(length);
    for (ReferenceWindow& head : heads_) head.truncate(length);
  }
  /// The last `count` tokens attend; the larger relative error.
  double attend(std::int64_t count) {
    const auto q = source_.queries(count);
    const Attended attended = testing::attend(runtime_, sequence_, count, q);
    WorstError worst;
    for (std::int64_t row = 0; row < count * shape_.num_q_heads; ++row) {
      const auto h = static_cast<int>(row % shape_.num_q_heads);
      ReferenceWindow& head = heads_[static_cast<std::size_t>(h / shape_.group_size())];
      const auto expected = head.attend(reference_, q.data() + row * shape_.head_dim_k, h,
                                        head.length() - count + row / shape_.num_q_heads);
      worst.out = std::max(worst.out, relative_error(attended.out.data() + row * shape_.head_dim_v, expected.out));
      worst.lse = std::max(worst.lse, std::abs(attended.lse[static_cast<std::size_t>(row)] - expected.lse));
    }
    return std::max(worst.out, worst.lse);
  }
  void expect_same_figures() {
    std::int64_t entries = 0, dropped = 0, most = 0;
    for (const ReferenceWindow& head : heads_) {
      const auto held = static_cast<std::int64_t>(head.held(head.length()).size());
      entries += held;
      most = std::max(most, held);
      dropped += head.length() - held;
    }
    const SequenceInfo info = runtime_.query_sequence(sequence_, 0);
    EXPECT_EQ(info.length, reference_.length());
    EXPECT_EQ(info.window_entries, entries);
    EXPECT_EQ(info.window_rows, most);
    EXPECT_EQ(info.dropped_rows * shape_.num_kv_heads, dropped);
    EXPECT_EQ(dropped_, dropped);
    EXPECT_EQ(info.host_rows, 0);
  }
  [[nodiscard]] const ReferenceWindow& head(std::size_t h) const { return heads_[h]; }
  [[nodiscard]] std::size_t num_heads() const { return heads_.size(); }

 private:
  Runtime runtime_;
  AttentionShape shape_;
  TokenSource source_;
  std::uint64_t sequence_;
  ReferenceSequence reference_;
  std::vector<ReferenceWindow> heads_;
  std::int64_t dropped_ = 0;
};

constexpr AttentionShape shape_of(int q_heads, int kv_heads, int dim) {
  return {1, q_heads, kv_heads, dim, dim, 0.f, 0.f};
}

class GreedyReference : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(
    HeavyHitters, GreedyReference,
    ::testing::Values(Case{shape_of(2, 2, 64), 4, 16, 1, 12, {16, 16, 7}},      // the rule of the paper
                      Case{shape_of(4, 2, 64), 0, 24, 8, 20, {24, 1, 0, 24}},   // pages; no sinks
                      Case{shape_of(4, 1, 80), 3, 70, 64, 50, {70, 33}},        // a page of 64
                      Case{shape_of(8, 1, 96), 4, 32, 8, 1, {32}},              // one kept token
                      Case{shape_of(2, 1, 128), 1, 9, 3, 30, {9, 9, 9, 9, 9}},  // odd sizes
                      Case{shape_of(1, 1, 256), 2, 1, 1, 40, {1}}));

TEST_P(GreedyReference, HasTheSameTokensAndAttention) {
  const Case& c = GetParam();
  SideBySide run(c);
  for (const std::int64_t chunk : c.chunks) {
    run.append(chunk);
    ASSERT_LT(run.attend(chunk), 2e-5);
  }
  const std::int64_t steps = 2 * (c.local + c.page + c.kept);
  for (std::int64_t i = 0; i < steps; ++i) {
    run.append(1);
    ASSERT_LT(run.attend(1), 2e-5) << "step " << i;
    run.expect_same_figures();
  }
  for (std::size_t h = 0; h < run.num_heads(); ++h) {
    EXPECT_EQ(run.head(h).num_kept(), c.kept);
    EXPECT_GT(run.head(h).closest_call(), 1e-5) << "rounding may have decided";
  }
}

TEST(HeavyHitters, EqualScoresLeaveByPosition) {
  // Nobody attends to the prompt, so all of it has a score of 0 when it leaves.
  SideBySide run({shape_of(4, 2, 64), 2, 16, 4, 10, {}});
  for (int i = 0; i < 5; ++i) run.append(16);
  EXPECT_GT(run.head(0).ties(), 0);
  for (int i = 0; i < 60; ++i) {
    ASSERT_LT(run.attend(1), 2e-5) << i;
    run.append(1);
  }
  run.expect_same_figures();
}

TEST(HeavyHitters, ACutKeepsScoresAndLosses) {
  SideBySide run({shape_of(4, 2, 64), 4, 24, 8, 20, {}});
  std::int64_t length = 0;
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 45; ++i, ++length) {
      run.append(1);
      ASSERT_LT(run.attend(1), 2e-5) << round << " " << i;
    }
    const std::int64_t back = 2 * round + 1;
    run.truncate(length -= back);
    if (round == 0) run.truncate(length -= 20);  // nothing has left for good by then
    ASSERT_LT(run.attend(1), 2e-5) << round;
  }
}

TEST(HeavyHitters, AreDenseWhileEverythingFits) {
  const Case c{shape_of(4, 2, 64), 4, 32, 8, 60, {}};
  Runtime runtime(config_of(c));
  TokenSource source(runtime.config().shape, 42);
  ReferenceSequence reference(runtime.config().shape);
  const std::uint64_t s = runtime.create_sequence();
  for (std::int64_t n = 1; n <= 4 + 60 + 32; ++n) {
    const auto t = source.tokens(1);
    append(runtime, s, t.k, t.v);
    reference.append(t.k, t.v);
    const auto q = source.queries(1);
    ASSERT_LT(worst_error(attend(runtime, s, 1, q), q, 1, reference, runtime.config().shape).out, 2e-5) << n;
    ASSERT_EQ(runtime.query_sequence(s, 0).dropped_rows, 0) << n;
  }
}

}  // namespace
}  // namespace tandem::testing
