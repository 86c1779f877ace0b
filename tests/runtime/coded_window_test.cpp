// Whole steps with a compressed window: exactly the attention over what is held, coded tokens as they are decoded and
// all others as they were, for every codec, device and way of grouping.
#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/codecs.h"
#include "tests/support/deferred_device.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

class RuntimeCodedWindow : public ::testing::TestWithParam<std::tuple<cpu::CodecParams, gpu::DeviceKind>> {
 protected:
  RuntimeCodedWindow() {
    config.shape = resolved({1, 4, 2, 64, 128, 0.f, 0.f});
    config.window = {4, 300, DType::f32, std::get<0>(GetParam()), 128};
    config.num_workers = 2;
  }
  [[nodiscard]] std::unique_ptr<Runtime> runtime() const {
    return std::make_unique<Runtime>(config, gpu::device_maker(std::get<1>(GetParam())));
  }
  /// The same tokens as a window sees them: those that are coded, decoded.
  [[nodiscard]] TokenSource::Tokens as_held(const TokenSource::Tokens& tokens, const SequenceInfo& info) const {
    const AttentionShape& shape = config.shape;
    TokenSource::Tokens held = tokens;
    const cpu::BlockCodec codec(config.window.codec, shape, config.rope, 0, 0);
    const std::int64_t first = config.window.sink_tokens + info.host_rows;
    const std::int64_t rows = codec.format().block_rows;
    for (std::int64_t head = 0; head < shape.num_kv_heads; ++head) {
      for (std::int64_t p = first; p < first + info.coded_rows; p += rows) {
        std::vector<float> k(static_cast<std::size_t>(rows * shape.head_dim_k));
        std::vector<float> v(static_cast<std::size_t>(rows * shape.head_dim_v));
        const auto each_row = [&](const auto& copy) {
          for (std::int64_t t = 0; t < rows; ++t) {
            const std::int64_t row = (p + t) * shape.num_kv_heads + head;
            copy(k.begin() + t * shape.head_dim_k, held.k.begin() + row * shape.head_dim_k, shape.head_dim_k);
            copy(v.begin() + t * shape.head_dim_v, held.v.begin() + row * shape.head_dim_v, shape.head_dim_v);
          }
        };
        each_row([](auto block, auto token, int dim) { std::copy_n(token, dim, block); });
        std::vector<std::byte> block(static_cast<std::size_t>(codec.format().block_bytes));
        codec.encode(k.data(), v.data(), p, block.data());
        codec.decode(block.data(), p, 0, static_cast<int>(rows), k.data(), v.data());
        each_row([](auto block_row, auto token, int dim) { std::copy_n(block_row, dim, token); });
      }
    }
    return held;
  }
  Config config;
};

INSTANTIATE_TEST_SUITE_P(Codecs, RuntimeCodedWindow,
                         ::testing::Combine(::testing::ValuesIn(codecs_under_test()), gpu::device_kinds()),
                         [](const auto& test) {
                           return concat(name_of(std::get<0>(test.param)), "_", to_string(std::get<1>(test.param)));
                         });

TEST_P(RuntimeCodedWindow, IsAttentionOverWhatIsHeld) {
  for (const std::int64_t length : {100, 200, 333, 900}) {
    const auto rt = runtime();
    TokenSource source(config.shape, 5);
    const std::uint64_t sequence = rt->create_sequence();
    const auto tokens = source.tokens(length);
    append(*rt, sequence, tokens.k, tokens.v);
    const SequenceInfo info = rt->query_sequence(sequence, 0);
    const cpu::BlockCodec codec(config.window.codec, config.shape, config.rope, 0, 0);
    ASSERT_EQ(info.coded_rows > 0, length > 4 + 128 + codec.format().block_rows) << length;
    ReferenceSequence reference(config.shape);
    const auto held = as_held(tokens, info);
    reference.append(held.k, held.v);
    for (const std::int64_t count : {1, 5, 40}) {
      const auto q = source.queries(count);
      const auto worst = worst_error(attend(*rt, sequence, count, q), q, count, reference, config.shape);
      EXPECT_LT(worst.out, 2e-5) << length << ", " << count;
      EXPECT_LT(worst.lse, 2e-5) << length << ", " << count;
    }
  }
}

TEST_P(RuntimeCodedWindow, MasksReachCodedTokens) {
  config.shape.softcap = 3.f;
  const auto rt = runtime();
  TokenSource source(config.shape, 6);
  const std::uint64_t sequence = rt->create_sequence();
  const auto tokens = source.tokens(500);
  append(*rt, sequence, tokens.k, tokens.v);
  ReferenceSequence reference(config.shape);
  const auto held = as_held(tokens, rt->query_sequence(sequence, 0));
  reference.append(held.k, held.v);
  for (const std::int64_t sliding : {0, 130, 190, 257, 420}) {
    AttendOptions options;
    options.rule = {sliding, {.01f, .1f, .2f, .0f}, {.5f, -1.f, 2.f, 0.f}};
    for (const std::int64_t count : {1, 9}) {
      const auto q = source.queries(count);
      const auto worst =
          worst_error(attend(*rt, sequence, count, q, options), q, count, reference, config.shape, options.rule);
      EXPECT_LT(worst.out, 2e-5) << sliding << ", " << count;
      EXPECT_LT(worst.lse, 2e-5) << sliding << ", " << count;
    }
  }
}

TEST_P(RuntimeCodedWindow, BitsDependOnTheTokensAlone) {
  const auto rt = runtime();
  TokenSource source(config.shape, 7);
  const auto tokens = source.tokens(700);
  const auto q = source.queries(3);
  const auto part = [&](const std::vector<float>& all, std::int64_t first, std::int64_t count, std::int64_t dim) {
    const std::int64_t width = config.shape.num_kv_heads * dim;
    return std::vector<float>(all.begin() + first * width, all.begin() + (first + count) * width);
  };
  std::vector<Attended> results;
  for (const std::int64_t chunk : {700, 1, 37}) {
    const std::uint64_t sequence = rt->create_sequence();
    for (std::int64_t done = 0; done < 700; done += chunk) {
      const std::int64_t count = std::min<std::int64_t>(chunk, 700 - done);
      append(*rt, sequence, part(tokens.k, done, count, 64), part(tokens.v, done, count, 128));
    }
    results.push_back(attend(*rt, sequence, 3, q));
  }
  const std::uint64_t longer = rt->create_sequence();
  append(*rt, longer, tokens.k, tokens.v);
  const auto more = source.tokens(400);
  append(*rt, longer, more.k, more.v);
  const std::uint64_t fork = rt->fork_sequence(longer, 700, {});
  results.push_back(attend(*rt, fork, 3, q));
  rt->truncate_sequence(longer, 700);
  results.push_back(attend(*rt, longer, 3, q));
  for (const Attended& result : results) {
    EXPECT_EQ(result.out, results.front().out);
    EXPECT_EQ(result.lse, results.front().lse);
  }
}

TEST_P(RuntimeCodedWindow, TheHostTierHasTheTokensAsTheyWere) {
  const auto rt = runtime();
  TokenSource source(config.shape, 8);
  const std::uint64_t sequence = rt->create_sequence();
  const auto tokens = source.tokens(900);
  append(*rt, sequence, tokens.k, tokens.v);
  const SequenceInfo info = rt->query_sequence(sequence, 0);
  ASSERT_GT(info.host_rows, 300);
  EXPECT_EQ(info.window_rows + info.host_rows, 900);
  const std::int64_t exact = config.window.sink_tokens + info.host_rows;
  ReferenceSequence reference(config.shape);  // of the host's tokens alone
  const auto first = [&](const std::vector<float>& all, std::int64_t dim) {
    const std::int64_t width = config.shape.num_kv_heads * dim;
    return std::vector<float>(all.begin() + config.window.sink_tokens * width, all.begin() + exact * width);
  };
  reference.append(first(tokens.k, 64), first(tokens.v, 128));
  AttendOptions options;
  options.use_window = false;
  const auto q = source.queries(1);
  const auto worst = worst_error(attend(*rt, sequence, 1, q, options), q, 1, reference, config.shape);
  EXPECT_LT(worst.out, 1e-5);
}

}  // namespace
}  // namespace tandem::testing
