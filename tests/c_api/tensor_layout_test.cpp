// Tensors in any layout and type that tandem.h allows: the same tokens, the same bits.
#include <cmath>
#include <cstring>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

constexpr std::int64_t kTokens = 150;
constexpr std::int64_t kQueries = 5;
constexpr std::int64_t kRowBytes = kDim * 4;

/// A layout of (tokens, heads, dim) fp32: where row (0, 0) lies, both strides and the size of the memory, in bytes.
struct Layout {
  const char* name;
  std::int64_t first, token_stride, head_stride, size;
};

std::vector<Layout> layouts(std::int64_t tokens, std::int64_t heads) {
  const std::int64_t dense = heads * kRowBytes;
  return {{"padded rows", 0, heads * (kRowBytes + 20), kRowBytes + 20, tokens * heads * (kRowBytes + 20)},
          {"padded tokens", 0, dense + 36, kRowBytes, tokens * (dense + 36)},
          {"head-major", 0, kRowBytes, tokens * kRowBytes, tokens * dense},
          {"backwards", (tokens - 1) * dense, -dense, kRowBytes, tokens * dense},
          {"heads backwards", dense - kRowBytes, dense, -kRowBytes, tokens * dense},
          {"one byte off", 1, dense, kRowBytes, tokens * dense + 1}};
}

/// A tensor in its own memory, all of which starts as 0x5a.
struct Strided {
  std::vector<unsigned char> memory;
  td_tensor tensor;

  Strided(const Layout& layout, std::int64_t tokens, std::int64_t heads)
      : memory(static_cast<std::size_t>(layout.size), 0x5a),
        tensor{
            memory.data() + layout.first, {tokens, heads, kDim}, {layout.token_stride, layout.head_stride}, TD_F32, 0} {
  }
  [[nodiscard]] unsigned char* row(std::int64_t token, std::int64_t head) const {
    return static_cast<unsigned char*>(tensor.data) + token * tensor.stride[0] + head * tensor.stride[1];
  }
  void copy_from(const std::vector<float>& dense) {
    for (std::int64_t r = 0; r < tensor.shape[0] * tensor.shape[1]; ++r) {
      std::memcpy(row(r / tensor.shape[1], r % tensor.shape[1]), dense.data() + r * kDim, kRowBytes);
    }
  }
  [[nodiscard]] std::vector<float> to_dense() const {
    std::vector<float> dense(static_cast<std::size_t>(tensor.shape[0] * tensor.shape[1] * kDim));
    for (std::int64_t r = 0; r < tensor.shape[0] * tensor.shape[1]; ++r) {
      std::memcpy(dense.data() + r * kDim, row(r / tensor.shape[1], r % tensor.shape[1]), kRowBytes);
    }
    return dense;
  }
};

TEST(TensorLayout, EveryLayoutHasTheBitsOfTheDenseOne) {
  const Rt rt(config());
  const td_seq dense = create(rt);
  ASSERT_EQ(Append({dense}, {kTokens}, 1).run(rt), TD_OK);
  const auto expected = attended(rt, dense, kQueries);
  for (std::size_t i = 0; i < layouts(1, 1).size(); ++i) {
    const Layout kv_layout = layouts(kTokens, kKvHeads)[i];
    const td_seq seq = create(rt);
    Append append({seq}, {kTokens}, 1);
    Strided k(kv_layout, kTokens, kKvHeads);
    Strided v(kv_layout, kTokens, kKvHeads);
    k.copy_from(append.k);
    v.copy_from(append.v);
    append.args.k = k.tensor;
    append.args.v = v.tensor;
    ASSERT_EQ(append.run(rt), TD_OK) << kv_layout.name << ": " << td_last_error();
    Attend attend({seq}, {kQueries}, 99);
    Strided q(layouts(kQueries, kQHeads)[i], kQueries, kQHeads);
    Strided out(layouts(kQueries, kQHeads)[i], kQueries, kQHeads);
    q.copy_from(attend.q);
    attend.args.q = q.tensor;
    attend.args.out = out.tensor;
    ASSERT_EQ(attend.run(rt), TD_OK) << kv_layout.name << ": " << td_last_error();
    auto values = out.to_dense();
    values.insert(values.end(), attend.lse.begin(), attend.lse.end());
    EXPECT_EQ(values, expected) << kv_layout.name;
    std::size_t untouched = 0;
    for (const unsigned char byte : out.memory) untouched += byte == 0x5a ? 1 : 0;
    EXPECT_GE(untouched, out.memory.size() - kQueries * kQHeads * kRowBytes) << kv_layout.name << ": wrote padding";
  }
}

TEST(TensorLayout, InterleavedKeysAndValuesShareOneBuffer) {
  const Rt rt(config());
  const td_seq dense = create(rt);
  const td_seq interleaved = create(rt);
  Append append({dense}, {kTokens}, 1);
  ASSERT_EQ(append.run(rt), TD_OK);
  const Layout layout{"K, V, K, V", 0, 2 * kKvHeads * kRowBytes, 2 * kRowBytes, 2 * kTokens * kKvHeads * kRowBytes};
  Strided both(layout, kTokens, kKvHeads);
  both.copy_from(append.k);
  Strided v = both;
  v.tensor.data = both.memory.data() + kRowBytes;
  v.copy_from(append.v);
  append.args.k = both.tensor;
  append.args.v = v.tensor;
  append.seqs[0] = interleaved;
  ASSERT_EQ(append.run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(attended(rt, interleaved), attended(rt, dense));
}

TEST(TensorLayout, RowsOfOutMayLieBetweenThoseOfQ) {
  const Rt rt(config());
  const td_seq seq = create(rt);
  ASSERT_EQ(Append({seq}, {kTokens}, 1).run(rt), TD_OK);
  const auto expected = attended(rt, seq, kQueries);
  constexpr std::int64_t kTokenBytes = 2 * kQHeads * kRowBytes;
  for (const Layout& layout :
       {Layout{"q, out by token", 0, kTokenBytes, kRowBytes, kQueries * kTokenBytes},
        Layout{"q, out by head", 0, kTokenBytes, 2 * kRowBytes, kQueries * kTokenBytes},
        Layout{"q, out by head, head-major", 0, 2 * kRowBytes, 2 * kQueries * kRowBytes, kQueries * kTokenBytes}}) {
    Attend attend({seq}, {kQueries}, 99);
    Strided both(layout, kQueries, kQHeads);
    both.copy_from(attend.q);
    const std::int64_t behind = layout.head_stride == kRowBytes ? kQHeads * kRowBytes : kRowBytes;
    Strided out = both;
    out.tensor.data = both.memory.data() + behind;
    attend.args.q = both.tensor;
    attend.args.out = out.tensor;
    ASSERT_EQ(attend.run(rt), TD_OK) << layout.name << ": " << td_last_error();
    auto values = out.to_dense();
    values.insert(values.end(), attend.lse.begin(), attend.lse.end());
    EXPECT_EQ(values, expected) << layout.name;
    EXPECT_EQ(both.to_dense(), attend.q) << layout.name;
  }
}

/// The 16 bits of a value that bf16 and f16 hold exactly (no subnormals).
std::uint16_t word_of(td_dtype dtype, float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  if (dtype == TD_BF16 || value == 0.f) return static_cast<std::uint16_t>(bits >> 16);
  const std::uint32_t rebased = (bits & 0x7fffffffu) - (112u << 23);
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | rebased >> 13);
}

class HalfTypes : public testing::TestWithParam<td_dtype> {};

INSTANTIATE_TEST_SUITE_P(TensorLayout, HalfTypes, testing::Values(TD_F16, TD_BF16));

TEST_P(HalfTypes, AreReadWithoutLossAndWrittenRounded) {
  const Rt rt(config());
  const td_seq single = create(rt);
  const td_seq half = create(rt);
  Append append({single}, {kTokens}, 1);
  Attend attend({single}, {kQueries}, 2);
  std::vector<std::uint16_t> words[3];
  std::size_t i = 0;
  for (auto* values : {&append.k, &append.v, &attend.q}) {
    for (float& x : *values) {
      x = std::round(16.f * x) / 16.f;
      words[i].push_back(word_of(GetParam(), x));
    }
    ++i;
  }
  ASSERT_EQ(append.run(rt), TD_OK);
  ASSERT_EQ(attend.run(rt), TD_OK);
  const auto expected = attend.out;
  const auto retype = [&](td_tensor& t, std::vector<std::uint16_t>& data) {
    t.data = data.data();
    t.dtype = GetParam();
  };
  append.seqs[0] = attend.seqs[0] = half;
  retype(append.args.k, words[0]);
  retype(append.args.v, words[1]);
  retype(attend.args.q, words[2]);
  ASSERT_EQ(append.run(rt), TD_OK) << td_last_error();
  ASSERT_EQ(attend.run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(attend.out, expected);
  std::vector<std::uint16_t> out(expected.size());
  retype(attend.args.out, out);
  ASSERT_EQ(attend.run(rt), TD_OK) << td_last_error();
  const std::uint32_t mantissa = GetParam() == TD_F16 ? 10 : 7;
  for (std::size_t n = 0; n < out.size(); ++n) {
    const std::uint32_t magnitude = out[n] & 0x7fffu;
    const int bias = GetParam() == TD_F16 ? 15 : 127;
    const auto exponent = static_cast<int>(magnitude >> mantissa);
    const auto fraction = static_cast<double>(magnitude & ((1u << mantissa) - 1)) + (exponent > 0 ? 1 << mantissa : 0);
    const double value = std::ldexp(fraction, std::max(exponent, 1) - bias - static_cast<int>(mantissa));
    EXPECT_NEAR(out[n] & 0x8000u ? -value : value, expected[n],
                std::ldexp(std::abs(expected[n]), -static_cast<int>(mantissa)) + 1e-7);
  }
}

TEST_P(HalfTypes, RefuseValuesThatTheyCannotStore) {
  for (int td_config::*field : {&td_config::window_dtype, &td_config::host_dtype}) {
    td_config c = config();
    c.*field = GetParam();
    const Rt rt(c);
    const td_seq seq = create(rt);
    fill(rt, seq, 200, 1);
    const Snapshot before(rt, {seq});
    // Infinite once it is stored as f16; for the others, the bound that keeps dot products finite.
    const float least = GetParam() == TD_F16 ? 65520.f : 1e16f;
    for (auto member : {&Append::k, &Append::v}) {
      Append append({seq}, {3}, 1);
      (append.*member)[kKvHeads * kDim] = -least;
      EXPECT_EQ(append.run(rt), TD_EINVAL);
      EXPECT_THAT(td_last_error(), testing::ContainsRegex("^[kv] holds .* in token 1, head 0"));
      EXPECT_EQ(Snapshot(rt, {seq}), before);
      (append.*member)[kKvHeads * kDim] = std::nextafter(least, 0.f);
      td_seq fits = create(rt);
      append.seqs[0] = fits;
      EXPECT_EQ(append.run(rt), TD_OK) << td_last_error();
    }
  }
}

}  // namespace
}  // namespace c_api
