// Windows without a host tier, and windows with a codec: attention is over what they hold, as they hold it.
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/codec/block_codec.h"
#include "tests/support/codecs.h"
#include "tests/support/deferred_device.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

struct Case {
  AttentionShape shape;
  std::int32_t sinks, local, residual;
  cpu::CodecParams codec;
};

constexpr AttentionShape shape_of(int q_heads, int kv_heads, int dim) {
  return {1, q_heads, kv_heads, dim, dim, 0.f, 0.f};
}

Config config_of(const Case& c, bool host_tier) {
  Config config;
  config.shape = resolved(c.shape);
  config.window = {c.sinks, c.local, DType::f32};
  config.window.codec = c.codec;
  config.window.residual_tokens = c.residual;
  config.host_tier = host_tier;
  config.num_workers = 2;
  return config;
}

/// All tokens of a sequence, and what its window makes of them as it grows.
class WindowModel {
 public:
  WindowModel(const Case& c, bool host_tier)
      : c_(c),
        shape_(resolved(c.shape)),
        codec_(c.codec, shape_, {}, 0, 0),
        page_(codec_ ? codec_.format().block_rows : 64),
        blocks_(codec_ ? (c.local - c.residual + page_ - 1) / page_ : 0),
        host_tier_(host_tier) {}

  void append(const TokenSource::Tokens& t) {
    for (auto* tokens : {&tokens_, &decoded_}) {
      tokens->k.insert(tokens->k.end(), t.k.begin(), t.k.end());
      tokens->v.insert(tokens->v.end(), t.v.begin(), t.v.end());
    }
    length_ += static_cast<std::int64_t>(t.k.size()) / (shape_.num_kv_heads * shape_.head_dim_k);
    for (const std::int64_t left = left_at(length_); left_ < left; left_ += page_) {
      if (codec_) encode(c_.sinks + left_);
    }
    evicted_ = std::max(evicted_, left_ - blocks_ * page_);
  }
  /// Without a host tier, where what was coded stays as the codes had it.
  void truncate(std::int64_t length) {
    length_ = length;
    left_ = std::max(evicted_, std::min(left_, left_at(length)));
    tokens_ = decoded_ = slice(decoded_, 0, length, shape_);
  }
  [[nodiscard]] std::int64_t length() const { return length_; }
  [[nodiscard]] std::int64_t evicted() const { return evicted_; }
  [[nodiscard]] std::int64_t coded() const { return left_ - evicted_; }
  /// Largest error of the last `count` queries.
  [[nodiscard]] double error_of(const Attended& attended, const std::vector<float>& q, std::int64_t count) const {
    const std::int64_t first = std::min(length_, c_.sinks + evicted_), end = std::min(length_, c_.sinks + left_);
    ReferenceSequence reference(shape_);
    for (const auto& [tokens, begin, last] : {std::tuple(&tokens_, std::int64_t{0}, first),
                                              std::tuple(&decoded_, first, end), std::tuple(&tokens_, end, length_)}) {
      const auto part = slice(*tokens, begin, last - begin, shape_);
      reference.append(part.k, part.v);
    }
    double worst = 0;
    for (std::int64_t row = 0; row < count * shape_.num_q_heads; ++row) {
      std::vector<std::int64_t> positions;
      for (std::int64_t p = 0; p <= length_ - count + row / shape_.num_q_heads; ++p) {
        if (p < c_.sinks || p >= first || host_tier_) positions.push_back(p);
      }
      const auto expected = reference.attend_over(q.data() + row * shape_.head_dim_k,
                                                  static_cast<int>(row % shape_.num_q_heads), positions);
      worst = std::max({worst, relative_error(attended.out.data() + row * shape_.head_dim_v, expected.out),
                        std::abs(attended.lse[static_cast<std::size_t>(row)] - expected.lse)});
    }
    return worst;
  }

 private:
  [[nodiscard]] std::int64_t left_at(std::int64_t length) const {
    const std::int64_t excess = length - c_.sinks - (codec_ ? c_.residual : c_.local) - page_;
    return excess <= 0 ? 0 : (excess + page_ - 1) / page_ * page_;
  }
  void encode(std::int64_t first) {
    const cpu::BlockFormat& f = codec_.format();
    std::vector<float> k(static_cast<std::size_t>(f.block_rows * f.padded_k)),
        v(static_cast<std::size_t>(f.block_rows * f.padded_v));
    std::vector<std::byte> block(static_cast<std::size_t>(f.block_bytes));
    for (std::int64_t h = 0; h < shape_.num_kv_heads; ++h) {
      const auto row = [&](std::int64_t t) { return (first + t) * shape_.num_kv_heads + h; };
      for (std::int64_t t = 0; t < f.block_rows; ++t) {
        std::copy_n(tokens_.k.data() + row(t) * f.dim_k, f.dim_k, k.data() + t * f.padded_k);
        std::copy_n(tokens_.v.data() + row(t) * f.dim_v, f.dim_v, v.data() + t * f.padded_v);
      }
      codec_.encode(k.data(), v.data(), first, block.data());
      codec_.decode(block.data(), first, 0, f.block_rows, k.data(), v.data());
      for (std::int64_t t = 0; t < f.block_rows; ++t) {
        std::copy_n(k.data() + t * f.padded_k, f.dim_k, decoded_.k.data() + row(t) * f.dim_k);
        std::copy_n(v.data() + t * f.padded_v, f.dim_v, decoded_.v.data() + row(t) * f.dim_v);
      }
    }
  }

  Case c_;
  AttentionShape shape_;
  cpu::BlockCodec codec_;
  std::int64_t page_, blocks_;
  bool host_tier_;
  TokenSource::Tokens tokens_, decoded_;  // as they came; as the codes have them, where they are or were coded
  std::int64_t length_ = 0, left_ = 0, evicted_ = 0;
};

const Case kCases[] = {
    {shape_of(4, 2, 64), 4, 40, 0, {}},
    {shape_of(2, 2, 80), 0, 1, 0, {}},
    {shape_of(4, 2, 64), 4, 160, 32, codec_of(cpu::CodecKind::int8)},
    {shape_of(4, 1, 96), 1, 100, 64, codec_of(cpu::CodecKind::fp8)},
    {shape_of(8, 2, 128), 4, 150, 32, kivi(4, 32)},
    {shape_of(2, 1, 256), 0, 257, 128, kivi(2, 128)},
};

std::string name_of(const Case& c) {
  return concat("d", c.shape.head_dim_k, "_", testing::name_of(c.codec), "_local", c.local);
}

class HeldTokens : public ::testing::TestWithParam<std::tuple<Case, bool /*host tier*/, gpu::DeviceKind>> {};

INSTANTIATE_TEST_SUITE_P(HostTierOff, HeldTokens,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::Bool(), gpu::device_kinds()),
                         [](const auto& test) {
                           return concat(name_of(std::get<0>(test.param)),
                                         std::get<1>(test.param) ? "_host_" : "_alone_",
                                         gpu::to_string(std::get<2>(test.param)));
                         });

TEST_P(HeldTokens, AreWhatIsAttendedTo) {
  const auto& [c, host_tier, device] = GetParam();
  Runtime runtime(config_of(c, host_tier), gpu::device_maker(device));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 111);
  WindowModel model(c, host_tier);
  const std::uint64_t s = runtime.create_sequence();
  std::int64_t dropped = 0;
  for (const std::int64_t chunk : {3, 80, 64, 1, 40, 1, 129, 60, 1, 200, 1, 1}) {
    const auto t = source.tokens(chunk);
    dropped += append(runtime, s, t.k, t.v).rows_dropped;
    model.append(t);
    const std::int64_t queries = std::min<std::int64_t>(3, chunk);
    const auto q = source.queries(queries);
    ASSERT_LT(model.error_of(attend(runtime, s, queries, q), q, queries), 5e-5) << model.length();
    const SequenceInfo info = runtime.query_sequence(s, 0);
    EXPECT_EQ(info.coded_rows, model.coded());
    EXPECT_EQ(info.dropped_rows, host_tier ? 0 : model.evicted());
    EXPECT_EQ(info.host_rows, host_tier ? model.evicted() : 0);
    EXPECT_EQ(info.window_rows, model.length() - model.evicted());
    EXPECT_EQ(info.window_entries, shape.num_kv_heads * info.window_rows);
    EXPECT_EQ(dropped, shape.num_kv_heads * info.dropped_rows);
  }
  EXPECT_GT(model.evicted(), 0);
}

class Cuts : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(HostTierOff, Cuts, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return name_of(test.param); });

TEST_P(Cuts, KeepWhatIsHeld) {
  const Case& c = GetParam();
  Runtime runtime(config_of(c, false));
  TokenSource source(runtime.config().shape, 112);
  WindowModel model(c, false);
  const std::uint64_t s = runtime.create_sequence();
  const auto t = source.tokens(700);
  append(runtime, s, t.k, t.v);
  model.append(t);
  const auto q = source.queries(1);
  const std::int64_t shortest = c.sinks + model.evicted();
  for (const std::int64_t length : {std::int64_t{699}, std::int64_t{690}, shortest + 1, shortest}) {
    WindowModel cut_model = model;
    cut_model.truncate(length);
    const std::uint64_t cut = runtime.fork_sequence(s, -1, std::nullopt);
    runtime.truncate_sequence(cut, length);
    const std::uint64_t fork = runtime.fork_sequence(s, length, std::nullopt);
    const auto more = source.tokens(90);
    for (const std::uint64_t sequence : {cut, fork}) {
      if (length > 0) {
        EXPECT_LT(cut_model.error_of(attend(runtime, sequence, 1, q), q, 1), 5e-5) << length;
      }
      append(runtime, sequence, more.k, more.v);
    }
    cut_model.append(more);
    EXPECT_LT(cut_model.error_of(attend(runtime, cut, 1, q), q, 1), 5e-5) << length;
    EXPECT_EQ(attend(runtime, cut, 1, q).out, attend(runtime, fork, 1, q).out);
  }
}

TEST_P(Cuts, ThatNeedWhatIsLostAreRefused) {
  const Case& c = GetParam();
  Runtime runtime(config_of(c, false));
  TokenSource source(runtime.config().shape, 113);
  WindowModel model(c, false);
  const std::uint64_t s = runtime.create_sequence();
  const auto t = source.tokens(700);
  append(runtime, s, t.k, t.v);
  model.append(t);
  const auto q = source.queries(2);
  const auto before = attend(runtime, s, 2, q).out;
  const std::int64_t shortest = c.sinks + model.evicted();
  const std::string expected =
      concat("num_tokens is ", shortest - 1, "; without a host tier, sequence ", s, " has lost the tokens ", c.sinks,
             " to ", shortest - 1, " of layer 0: allowed are 0 to ", c.sinks, " and ", shortest, " or more");
  EXPECT_EQ(message_of([&] { runtime.truncate_sequence(s, shortest - 1); }), expected);
  EXPECT_EQ(message_of([&] { runtime.fork_sequence(s, shortest - 1, std::nullopt); }), expected);
  EXPECT_THAT(message_of([&] { runtime.truncate_sequence(s, c.sinks + 1); }), ::testing::HasSubstr("or more"));
  EXPECT_EQ(attend(runtime, s, 2, q).out, before);
  // The sinks are never lost.
  runtime.truncate_sequence(s, c.sinks);
  const std::uint64_t fresh = runtime.create_sequence();
  const auto sinks = slice(t, 0, c.sinks, runtime.config().shape);
  append(runtime, fresh, sinks.k, sinks.v);
  for (const std::uint64_t sequence : {s, fresh}) append(runtime, sequence, t.k, t.v);
  EXPECT_EQ(attend(runtime, s, 2, q).out, attend(runtime, fresh, 2, q).out);
}

TEST_P(Cuts, WithAHostTierAreAsIfNeverLonger) {
  const Case& c = GetParam();
  Runtime runtime(config_of(c, true));
  const AttentionShape& shape = runtime.config().shape;
  TokenSource source(shape, 114);
  const std::uint64_t s = runtime.create_sequence();
  const auto t = source.tokens(700);
  append(runtime, s, t.k, t.v);
  const auto q = source.queries(1);
  for (const std::int64_t length : {699, 600, 450, 333, 200, 130, 66, 3}) {
    const std::uint64_t fresh = runtime.create_sequence();
    const auto prefix = slice(t, 0, length, shape);
    append(runtime, fresh, prefix.k, prefix.v);
    const std::uint64_t fork = runtime.fork_sequence(s, length, std::nullopt);
    EXPECT_EQ(attend(runtime, fork, 1, q).out, attend(runtime, fresh, 1, q).out) << length;
    const auto more = slice(t, 0, 90, shape);
    for (const std::uint64_t sequence : {fork, fresh}) append(runtime, sequence, more.k, more.v);
    EXPECT_EQ(attend(runtime, fork, 1, q).out, attend(runtime, fresh, 1, q).out) << length;
  }
}

TEST_P(Cuts, ChunksChangeNoBit) {
  const Case& c = GetParam();
  for (const bool host_tier : {false, true}) {
    Runtime runtime(config_of(c, host_tier));
    TokenSource source(runtime.config().shape, 115);
    const auto t = source.tokens(600);
    const auto q = source.queries(1);
    std::vector<std::vector<float>> outs;
    for (const std::int64_t chunk : {1, 77, 600}) {
      const std::uint64_t s = runtime.create_sequence();
      for (std::int64_t done = 0; done < 600; done += chunk) {
        const auto part = slice(t, done, std::min(chunk, 600 - done), runtime.config().shape);
        append(runtime, s, part.k, part.v);
      }
      outs.push_back(attend(runtime, s, 1, q).out);
    }
    EXPECT_EQ(outs[1], outs[0]);
    EXPECT_EQ(outs[2], outs[0]);
  }
}

}  // namespace
}  // namespace tandem::testing
