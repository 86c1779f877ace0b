// Block codecs: what a block holds, how far it is from what was encoded, and which parameters are refused.
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/codec/fp8.h"
#include "cpu/codec/uniform_group.h"
#include "runtime/base/error.h"
#include "tests/support/codecs.h"
#include "tests/support/coded_head.h"

namespace tandem::cpu {
namespace {

using testing::codec_of;
using testing::codecs_under_test;
using testing::CodedHead;
using testing::kivi;
using testing::relative_error;

AttentionShape shape_of(int dim_k, int dim_v, int group = 1) { return resolved({1, group, 1, dim_k, dim_v, 0.f, 0.f}); }

TEST(Fp8, EveryNumberComesBackAndWhatLiesBetweenGoesToTheNearest) {
  for (int bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7f) == 0x7f) continue;  // NaN
    const float x = fp8_to_f32(static_cast<std::uint8_t>(bits));
    EXPECT_EQ(f32_to_fp8(x), bits) << x;
    if ((bits & 0x7f) == 0x7e) continue;  // 448, the largest
    const float next = fp8_to_f32(static_cast<std::uint8_t>(bits + 1)), half = (x + next) / 2;
    EXPECT_EQ(f32_to_fp8(half), bits % 2 == 0 ? bits : bits + 1) << half;  // ties to even
    EXPECT_EQ(f32_to_fp8(std::nextafter(half, x)), bits);
    EXPECT_EQ(f32_to_fp8(std::nextafter(half, next)), bits + 1);
  }
  EXPECT_EQ(fp8_to_f32(0x7e), 448.f);
  EXPECT_EQ(fp8_to_f32(0x01), std::ldexp(1.f, -9));
  EXPECT_EQ(fp8_to_f32(0xb8), -1.f);
}

class BlockCodecs : public ::testing::TestWithParam<CodecParams> {};
INSTANTIATE_TEST_SUITE_P(Codecs, BlockCodecs, ::testing::ValuesIn(codecs_under_test()),
                         [](const auto& test) { return testing::name_of(test.param); });

TEST_P(BlockCodecs, PaddingIsZeroAndAllOfABlockIsWritten) {
  for (const auto& [dim_k, dim_v] : {std::pair{1, 128}, {72, 128}, {80, 256}, {128, 128}}) {
    if (!testing::allows(GetParam(), dim_k, dim_v)) continue;
    CodedHead head(GetParam(), shape_of(dim_k, dim_v), 100);
    const BlockFormat& f = head.codec.format();
    EXPECT_EQ(f.block_bytes % 64, 0);
    EXPECT_LE(f.code_bytes, f.block_bytes);
    for (std::size_t i = 0; i < head.decoded_k.size(); ++i) {
      if (i % static_cast<std::size_t>(f.padded_k) >= static_cast<std::size_t>(dim_k)) {
        ASSERT_EQ(head.decoded_k[i], 0.f);
      }
    }
    AlignedVector<std::byte> again(static_cast<std::size_t>(f.block_bytes), std::byte{0x55});
    head.codec.encode(head.k.data(), head.v.data(), 0, again.data());
    EXPECT_EQ(std::memcmp(again.data(), head.blocks.data(), again.size()), 0);
  }
}

TEST_P(BlockCodecs, DecodesAnyRowsAsItDecodesAll) {
  const CodedHead head(GetParam(), shape_of(80, 128), 1);
  const BlockFormat& f = head.codec.format();
  AlignedVector<float> k(static_cast<std::size_t>(3 * f.padded_k)), v(static_cast<std::size_t>(3 * f.padded_v));
  for (const int first : {0, 31, f.block_rows - 3}) {
    head.codec.decode(head.blocks.data(), 0, first, 3, k.data(), v.data());
    EXPECT_TRUE(std::equal(k.begin(), k.end(), head.decoded_k.begin() + first * f.padded_k));
    EXPECT_TRUE(std::equal(v.begin(), v.end(), head.decoded_v.begin() + first * f.padded_v));
  }
}

/// Codes know no unit: a power of two more in every element is one more in what comes back.
TEST_P(BlockCodecs, ScalesWithItsInput) {
  const CodedHead unit(GetParam(), shape_of(64, 128), 1);
  for (const int exponent : {-80, -20, 20, 50}) {
    CodedHead scaled = unit;
    for (float& x : scaled.k) x = std::ldexp(x, exponent);
    for (float& x : scaled.v) x = std::ldexp(x, exponent);
    scaled.encode();
    for (std::size_t i = 0; i < unit.k.size(); ++i)
      ASSERT_EQ(scaled.decoded_k[i], std::ldexp(unit.decoded_k[i], exponent));
    for (std::size_t i = 0; i < unit.v.size(); ++i)
      ASSERT_EQ(scaled.decoded_v[i], std::ldexp(unit.decoded_v[i], exponent));
  }
}

TEST_P(BlockCodecs, EncodesWhatItDecodedToTheSameAgain) {
  for (const double scale : {1.0, 1e-30, 1e15}) {
    CodedHead head(GetParam(), shape_of(128, 128), 256, {.key_scale = scale, .value_scale = scale});
    const auto k = head.decoded_k, v = head.decoded_v;
    head.k = k;
    head.v = v;
    head.encode();
    // A scale of int8 and fp8 is the quotient of what was scaled with it: an ulp of fp32 may be lost.
    const bool exact = GetParam().kind == CodecKind::kivi || GetParam().kind == CodecKind::qjl;
    const bool is_sketch = GetParam().kind == CodecKind::qjl;  // of a key that is longer than the one that was encoded
    for (std::size_t i = 0; i < k.size() && !is_sketch; ++i)
      ASSERT_NEAR(head.decoded_k[i], k[i], exact ? 0.0 : 3e-7 * std::abs(k[i]));
    for (std::size_t i = 0; i < v.size(); ++i)
      ASSERT_NEAR(head.decoded_v[i], v[i], exact ? 0.0 : 3e-7 * std::abs(v[i]));
  }
}

class ScaledBytes : public ::testing::TestWithParam<CodecKind> {};
INSTANTIATE_TEST_SUITE_P(Codecs, ScaledBytes, ::testing::Values(CodecKind::int8, CodecKind::fp8),
                         [](const auto& test) { return std::string(to_string(test.param)); });

/// Rows (64, 128) of keys that are off by no more than the header says.
void expect_bounded(CodecKind kind, const CodedHead& head) {
  const float tiny = std::numeric_limits<float>::denorm_min() * 256;  // a scale that is subnormal is itself rounded
  for (std::size_t r = 0; r < 64; ++r) {
    float largest = 0.f;
    for (std::size_t d = 0; d < 128; ++d) largest = std::max(largest, std::abs(head.k[r * 128 + d]));
    for (std::size_t d = 0; d < 128; ++d) {
      const float x = head.k[r * 128 + d];
      const float bound =
          kind == CodecKind::int8 ? largest / 127 * 0.5f : std::max(std::abs(x) / 16, std::ldexp(largest / 448, -10));
      ASSERT_NEAR(head.decoded_k[r * 128 + d], x, bound * 1.00001f + tiny) << largest;
    }
  }
}

TEST_P(ScaledBytes, AreOffByNoMoreThanStated) {
  for (const double scale : {0.0, 1e-42, 1e-30, 1.0, 2e15}) {
    expect_bounded(GetParam(), CodedHead(codec_of(GetParam()), shape_of(128, 128), 64, {.key_scale = scale}));
  }
  CodedHead falling(codec_of(GetParam()), shape_of(128, 128), 64);  // through all of e4m3's range, below 2^-9 too
  for (std::size_t i = 0; i < falling.k.size(); ++i)
    falling.k[i] = std::exp2(-static_cast<float>(i % 128) / 6.f) * (1.f + 0.01f * static_cast<float>(i / 128));
  falling.encode();
  expect_bounded(GetParam(), falling);
}

TEST_P(ScaledBytes, GiveTheLargestElementTheLargestByte) {
  CodedHead head(codec_of(GetParam()), shape_of(64, 64), 64);
  for (std::size_t r = 0; r < 64; ++r) head.k[r * 64 + r] = r % 2 == 0 ? 9.f : -9.f;
  head.encode();
  for (std::size_t r = 0; r < 64; ++r) {
    const std::byte byte = head.blocks[r * 64 + r];
    const int positive = GetParam() == CodecKind::int8 ? 127 : 0x7e,
              negative = GetParam() == CodecKind::int8 ? 0x81 : 0xfe;
    EXPECT_EQ(std::to_integer<int>(byte), r % 2 == 0 ? positive : negative);
    EXPECT_NEAR(std::abs(head.decoded_k[r * 64 + r]), 9.f, 1e-6f);
  }
}

class Kivi : public ::testing::TestWithParam<std::tuple<int /*bits*/, int /*group*/>> {
 protected:
  [[nodiscard]] CodecParams codec() const { return kivi(std::get<0>(GetParam()), std::get<1>(GetParam())); }
  [[nodiscard]] int levels() const { return (1 << codec().bits) - 1; }
  /// By how much elements of a group may be off: half a step of the header, and rounding.
  [[nodiscard]] double bound(double least, double largest) const {
    return (1 + std::ldexp(1.0, -8)) * (largest - least + std::ldexp(std::abs(least), -7)) / levels() / 2 +
           std::ldexp(std::max(std::abs(least), std::abs(largest)), -23) + std::ldexp(1.0, -133);
  }
  /// Checks the elements first, first + stride, ... of a group.
  void expect_bounded(const AlignedVector<float>& x, const AlignedVector<float>& decoded, std::size_t first,
                      std::size_t stride) const {
    double least = INFINITY, largest = -INFINITY;
    for (int i = 0; i < codec().group; ++i) {
      const double element = x[first + static_cast<std::size_t>(i) * stride];
      least = std::min(least, element);
      largest = std::max(largest, element);
    }
    for (int i = 0; i < codec().group; ++i) {
      const std::size_t at = first + static_cast<std::size_t>(i) * stride;
      ASSERT_NEAR(decoded[at], x[at], bound(least, largest)) << least << " to " << largest;
    }
  }
  void expect_bounded(const CodedHead& head) const {
    const auto dim_k = static_cast<std::size_t>(head.codec.format().padded_k);
    const auto dim_v = static_cast<std::size_t>(head.codec.format().padded_v);
    const auto group = static_cast<std::size_t>(codec().group);
    for (std::size_t r = 0; r < head.k.size() / dim_k; r += group) {
      for (std::size_t d = 0; d < dim_k; ++d) expect_bounded(head.k, head.decoded_k, r * dim_k + d, dim_k);
    }
    for (std::size_t i = 0; i < head.v.size(); i += group) expect_bounded(head.v, head.decoded_v, i, 1);
    ASSERT_EQ(head.v.size() % dim_v, 0u);
  }
};
INSTANTIATE_TEST_SUITE_P(Codecs, Kivi, ::testing::Combine(::testing::Values(2, 4), ::testing::Values(32, 64, 128)),
                         [](const auto& test) {
                           return testing::name_of(kivi(std::get<0>(test.param), std::get<1>(test.param)));
                         });

TEST_P(Kivi, IsOffByNoMoreThanHalfAStep) {
  for (const double scale : {0.0, 1e-42, 1e-38, 1e-30, 1.0, 1e5, 2e15})
    expect_bounded(CodedHead(codec(), shape_of(80, 128), 256, {.key_scale = scale, .value_scale = scale}));
}

/// Channels and tokens far from zero: fp16 would round a minimum of 100 to 1/16, bf16 to 1/2.
TEST_P(Kivi, OffsetsCostNoMoreThanStated) {
  for (const float offset : {-1000.f, -3.3f, 100.f, 4e9f}) {
    CodedHead head(codec(), shape_of(64, 128), 128);
    for (float& x : head.k) x += offset;
    for (float& x : head.v) x += offset;
    head.encode();
    expect_bounded(head);
  }
}

/// systems: |x - x^| <= s / 2 (1 + 2^-10) + an ulp of fp16, for rows of 16 bits, whose minima are stored exactly.
TEST_P(Kivi, OfBfloat16RowsIsHalfAStepWithoutOffsets) {
  CodedHead head(codec(), shape_of(64, 128), 128);
  for (float& x : head.k) x = bf16_to_f32(f32_to_bf16(x + 3.f));
  head.encode();
  for (std::size_t first = 0; first < head.k.size(); first += static_cast<std::size_t>(codec().group) * 64) {
    for (std::size_t d = 0; d < 64; ++d) {
      double least = INFINITY, largest = -INFINITY;
      for (std::size_t r = 0; r < static_cast<std::size_t>(codec().group); ++r) {
        least = std::min(least, static_cast<double>(head.k[first + r * 64 + d]));
        largest = std::max(largest, static_cast<double>(head.k[first + r * 64 + d]));
      }
      const double ulp = std::ldexp(1.0, std::ilogb(std::max(std::abs(least), std::abs(largest))) - 10);
      for (std::size_t r = 0; r < static_cast<std::size_t>(codec().group); ++r) {
        const std::size_t at = first + r * 64 + d;
        ASSERT_NEAR(head.decoded_k[at], head.k[at],
                    (largest - least) / levels() / 2 * (1 + std::ldexp(1.0, -10)) + ulp);
      }
    }
  }
}

TEST_P(Kivi, ConstantGroupsAreExactWithCodeZero) {
  for (const float x : {0.f, -0.f, 1.f, -3.5f, bf16_to_f32(0x5a0e), -9.984e15f}) {
    const float constant = bf16_to_f32(f32_to_bf16(x));
    CodedHead head(codec(), shape_of(64, 128), 1);
    std::fill(head.k.begin(), head.k.end(), constant);
    std::fill(head.v.begin(), head.v.end(), constant);
    head.encode();
    const BlockFormat& f = head.codec.format();
    for (const float y : head.decoded_k) ASSERT_EQ(y, constant);
    for (const float y : head.decoded_v) ASSERT_EQ(y, constant);
    for (std::int64_t i = 0; i < f.k_side; ++i) ASSERT_EQ(head.blocks[static_cast<std::size_t>(i)], std::byte{0});
    for (std::int64_t i = f.v_codes; i < f.v_side; ++i) {
      ASSERT_EQ(head.blocks[static_cast<std::size_t>(i)], std::byte{0});
    }
  }
  const UniformGroup other = uniform_group(0.1f, 0.1f, codec().bits);  // not a bf16 number
  EXPECT_NEAR(uniform_value(other, uniform_code(other, codec().bits, 0.1f)), 0.1f, std::ldexp(0.1f, -14));
}

/// Logits are off by sum_c |q_c| s_c / 2, outputs by (e^(2 eps) - 1) max |v| and half a step of V for each element.
TEST_P(Kivi, LogitsAndOutputsAreOffByNoMoreThanTheStepsAllow) {
  constexpr std::int64_t kRows = 256;
  constexpr int kDim = 128;
  const CodedHead head(codec(), shape_of(kDim, kDim), kRows);
  double eps = 0;
  for (std::size_t r = 0; r < kRows; ++r) {
    double error = 0, allowed = 0;
    for (std::size_t d = 0; d < kDim; ++d) {
      double least = INFINITY, largest = -INFINITY;
      const std::size_t group = r / static_cast<std::size_t>(codec().group) * static_cast<std::size_t>(codec().group);
      for (std::size_t i = group; i < group + static_cast<std::size_t>(codec().group); ++i) {
        least = std::min(least, static_cast<double>(head.k[i * kDim + d]));
        largest = std::max(largest, static_cast<double>(head.k[i * kDim + d]));
      }
      const double q = head.q[d];
      error += q * (static_cast<double>(head.decoded_k[r * kDim + d]) - static_cast<double>(head.k[r * kDim + d]));
      allowed += std::abs(q) * bound(least, largest);
    }
    ASSERT_LE(std::abs(error), allowed);
    eps = std::max(eps, allowed);
  }
  double longest = 0, step = 0;
  for (std::size_t r = 0; r < kRows; ++r) {
    double square = 0;
    for (std::size_t d = 0; d < kDim; ++d) square += std::pow(head.v[r * kDim + d], 2);
    longest = std::max(longest, std::sqrt(square));
    for (std::size_t g = 0; g < kDim; g += static_cast<std::size_t>(codec().group)) {
      const auto [least, largest] = std::minmax_element(&head.v[r * kDim + g], &head.v[r * kDim + g] + codec().group);
      step = std::max(step, bound(*least, *largest));
    }
  }
  const auto exact = head.expected(head.k, head.v, 0, 0, kRows);
  const auto coded = head.expected(head.decoded_k, head.decoded_v, 0, 0, kRows);
  double square = 0;
  for (std::size_t d = 0; d < kDim; ++d) square += std::pow(exact.out[d] - coded.out[d], 2);
  EXPECT_LE(std::sqrt(square), (std::exp(2 * eps) - 1) * longest + step * std::sqrt(kDim));
}

TEST(Kivi, TakesTheBytesOfTheTable) {
  const auto bytes_of_token = [](const CodecParams& params) {
    const BlockFormat f = BlockCodec(params, shape_of(128, 128), {}, 0, 0).format();
    EXPECT_EQ(f.code_bytes, f.block_bytes);  // no padding at head_dim 128
    EXPECT_EQ(f.block_bytes % f.block_rows, 0);
    return f.block_bytes / f.block_rows;
  };
  EXPECT_EQ(bytes_of_token(kivi(2, 32)), 96);
  EXPECT_EQ(bytes_of_token(kivi(4, 32)), 160);
  EXPECT_EQ(bytes_of_token(kivi(2, 128)), 72);
  EXPECT_EQ(bytes_of_token(codec_of(CodecKind::int8)), 264);
  EXPECT_EQ(bytes_of_token(codec_of(CodecKind::fp8)), 264);
}

/// What the headers state of attention over independent normal keys and values.
TEST(BlockCodecError, OfNormalHeadsIsAsStated) {
  constexpr std::int64_t kRows = 1024;
  for (const auto& [params, stated] : {std::pair{codec_of(CodecKind::int8), 0.009},
                                       {codec_of(CodecKind::fp8), 0.036},
                                       {kivi(4, 32), 0.106},
                                       {kivi(2, 32), 0.59},
                                       {testing::qjl(256, 0), 0.72},
                                       {testing::qjl(256, 8), 0.66}}) {
    const CodedHead head(params, shape_of(128, 128, 8), kRows);
    double error = 0;
    for (int h = 0; h < 8; ++h) {
      const auto coded = head.expected(head.decoded_k, head.decoded_v, h, 0, kRows);
      const std::vector<float> out(coded.out.begin(), coded.out.end());
      error += relative_error(out.data(), head.expected(head.k, head.v, h, 0, kRows).out) / 8;
    }
    EXPECT_NEAR(error, stated, 0.05 * stated) << testing::name_of(params);
  }
}

std::string refusal(const CodecParams& params, const AttentionShape& shape, ErrorCode code) {
  try {
    validate(params, shape, {});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "accepted";
}

TEST(CodecParams, AreRefusedByNameAndValue) {
  using ::testing::HasSubstr;
  const auto invalid = ErrorCode::invalid_argument;
  EXPECT_THAT(refusal(kivi(3, 32), shape_of(128, 128), invalid), HasSubstr("bits of kivi is 3"));
  EXPECT_THAT(refusal(kivi(4, 48), shape_of(128, 128), invalid), HasSubstr("group of kivi is 48"));
  EXPECT_THAT(refusal(kivi(4, 0), shape_of(128, 128), invalid), HasSubstr("group of kivi is 0"));
  EXPECT_THAT(refusal(kivi(4, 64), shape_of(128, 96), invalid), HasSubstr("head_dim_v, which is 96"));
  EXPECT_THAT(refusal(kivi(4, 32), shape_of(128, 80), invalid), HasSubstr("head_dim_v, which is 80"));
  EXPECT_THAT(refusal(codec_of(static_cast<CodecKind>(9)), shape_of(128, 128), invalid), HasSubstr("kind is 9"));
  EXPECT_EQ(refusal(kivi(4, 32), shape_of(80, 96), invalid), "accepted");
  EXPECT_EQ(refusal(codec_of(CodecKind::none), shape_of(80, 80), invalid), "accepted");
  EXPECT_THROW(BlockCodec(kivi(4, 32), shape_of(128, 80), {}, 0, 0), Error);
  EXPECT_FALSE(BlockCodec(codec_of(CodecKind::none), shape_of(80, 80), {}, 0, 0));
}

}  // namespace
}  // namespace tandem::cpu
