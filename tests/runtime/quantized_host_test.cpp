// Host tiers in 8 and 4 bits behind whole steps: close to exact, cut and forked like any other, one rounding per row.
#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

/// Every row is certain to be drawn.
lsh::SketchParams all_by_sketch() {
  lsh::SketchParams params;
  params.budget = 1.0;
  return params;
}

class QuantizedHost : public ::testing::TestWithParam<std::tuple<DType, lsh::SelectorParams>> {
 protected:
  QuantizedHost() {
    config.shape = resolved({1, 4, 2, 64, 48, 0.f, 0.f});
    config.window = {4, 64, DType::f32};
    config.host_dtype = std::get<0>(GetParam());
    config.selector = std::get<1>(GetParam());
    config.never_slower = false;
    config.num_workers = 2;
  }
  [[nodiscard]] double tolerance() const { return config.host_dtype == DType::int8 ? 0.03 : 0.2; }
  Config config;
};

INSTANTIATE_TEST_SUITE_P(Formats, QuantizedHost,
                         ::testing::Combine(::testing::Values(DType::int8, DType::k8v4),
                                            ::testing::Values(lsh::SelectorParams(lsh::SelectAllParams{}),
                                                              lsh::SelectorParams(lsh::TopKParams{1.0}),
                                                              lsh::SelectorParams(lsh::LshParams{1, 300, 1, 7}),
                                                              lsh::SelectorParams(all_by_sketch()))));

TEST_P(QuantizedHost, IsCloseToDenseAttention) {
  Runtime runtime(config);
  ReferenceSequence reference(runtime.config().shape);
  TokenSource source(runtime.config().shape, 21);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(900);
  append(runtime, sequence, t.k, t.v);
  reference.append(t.k, t.v);
  for (const std::int64_t count : {1, 70}) {
    const auto q = source.queries(count);
    const auto worst = worst_error(attend(runtime, sequence, count, q), q, count, reference, runtime.config().shape);
    EXPECT_LT(worst.out, tolerance());
    EXPECT_LT(worst.lse, 0.01);
  }
}

TEST_P(QuantizedHost, BitsDoNotDependOnTheQueriesThatShareACall) {
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 22);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(500);
  append(runtime, sequence, t.k, t.v);
  const auto q = source.queries(40);
  const auto together = attend(runtime, sequence, 40, q);
  const auto last = attend(runtime, sequence, 1, {q.end() - 4 * 64, q.end()});
  EXPECT_EQ(std::vector<float>(together.out.end() - 4 * 48, together.out.end()), last.out);
}

TEST_P(QuantizedHost, RowsThatReturnToTheWindowAreDecoded) {
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 23);
  const auto t = source.tokens(700);
  const std::uint64_t sequence = runtime.create_sequence();
  append(runtime, sequence, t.k, t.v);
  const std::uint64_t fork = runtime.fork_sequence(sequence, 400, std::nullopt);
  runtime.truncate_sequence(sequence, 400);
  ReferenceSequence reference(runtime.config().shape);
  reference.append({t.k.begin(), t.k.begin() + 400 * 2 * 64}, {t.v.begin(), t.v.begin() + 400 * 2 * 48});
  const auto q = source.queries(3);
  for (const std::uint64_t s : {sequence, fork}) {
    AttendOptions only_window;
    only_window.use_host = false;
    EXPECT_GT(attend(runtime, s, 3, q, only_window).stats.rows_window, 3 * 60);
    const auto worst = worst_error(attend(runtime, s, 3, q), q, 3, reference, runtime.config().shape);
    EXPECT_LT(worst.out, tolerance());
    EXPECT_LT(worst.lse, 0.01);
  }
}

TEST_P(QuantizedHost, ErrorsIncludeTheFormatsAndAreNeverCertified) {
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 23);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto t = source.tokens(900);
  append(runtime, sequence, t.k, t.v);
  const auto attended = attend(runtime, sequence, 1, source.queries(1), {.exact = true});
  EXPECT_EQ(attended.stats.uncertified, config.shape.num_q_heads);
  EXPECT_GT(attended.stats.out_error, 0.5 * cpu::typical_error(config.host_dtype));
}

TEST(QuantizedConfig, AnErrorThatTheFormatExceedsIsRefused) {
  Config config;
  config.shape = {1, 2, 1, 32, 32, 0.f, 0.f};
  config.host_dtype = DType::k8v4;
  config.selector = lsh::SketchParams{.error = 0.1};
  EXPECT_THROW(Runtime{config}, Error);
  config.selector = lsh::SketchParams{.error = 0.2};
  Runtime runtime(config);
  const std::uint64_t sequence = runtime.create_sequence();
  EXPECT_THROW((void)runtime.fork_sequence(sequence, -1, lsh::SketchParams{.error = 0.1}), Error);
}

TEST(QuantizedConfig, WindowsAreNotQuantized) {
  Config config;
  config.shape = resolved({1, 1, 1, 16, 16, 0.f, 0.f});
  for (const DType format : {DType::int8, DType::k8v4}) {
    config.window.dtype = format;
    EXPECT_THROW(Runtime{config}, Error);
  }
  config.window.dtype = DType::f32;
  config.host_dtype = DType::k8v4;
  EXPECT_EQ(config_from_json(config_to_json(config)).host_dtype, DType::k8v4);
  EXPECT_THROW(config_from_json(R"({"num_layers": 1, "window_dtype": "int8"})"), Error);
}

}  // namespace
}  // namespace tandem::testing
