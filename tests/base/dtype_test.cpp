#include "runtime/base/dtype.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "runtime/base/random.h"

namespace tandem {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// A 16-bit format with the slow, obvious arithmetic to judge the fast one by.
struct Format {
  const char* name;
  DType dtype;
  int mantissa_bits;
  int bias;
  float (*decode)(std::uint16_t);
  std::uint16_t (*encode)(float);

  [[nodiscard]] int infinity() const { return ((1 << (15 - mantissa_bits)) - 1) << mantissa_bits; }
  /// Value of 15 bits without a sign; that of infinity() is the power of two where overflow begins to round.
  [[nodiscard]] double magnitude(int bits) const {
    const int exponent = bits >> mantissa_bits;
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const int implicit_one = exponent == 0 ? 0 : 1 << mantissa_bits;
    return std::ldexp(mantissa + implicit_one, std::max(exponent, 1) - bias - mantissa_bits);
  }
  /// The nearest value of the format, ties to the even bit pattern.
  [[nodiscard]] std::uint16_t nearest(float value) const {
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const double wanted = std::abs(static_cast<double>(value));
    if (std::isinf(value)) return static_cast<std::uint16_t>(sign | infinity());
    int low = 0;
    int high = infinity();
    while (high - low > 1) (magnitude((low + high) / 2) <= wanted ? low : high) = (low + high) / 2;
    if (wanted >= magnitude(high)) return static_cast<std::uint16_t>(sign | high);
    const double below = wanted - magnitude(low);
    const double above = magnitude(high) - wanted;
    const bool up = above < below || (above == below && low % 2 == 1);
    return static_cast<std::uint16_t>(sign | (up ? high : low));
  }
};

const std::array kFormats{
    Format{"f16", DType::f16, 10, 15, &f16_to_f32, &f32_to_f16},
    Format{"bf16", DType::bf16, 7, 127, [](std::uint16_t b) { return bf16_to_f32(b); }, &f32_to_bf16}};

class SixteenBits : public testing::TestWithParam<Format> {};

INSTANTIATE_TEST_SUITE_P(DType, SixteenBits, testing::ValuesIn(kFormats),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(SixteenBits, DecodesEveryPattern) {
  const Format& format = GetParam();
  for (int bits = 0; bits < 0x10000; ++bits) {
    const float value = format.decode(static_cast<std::uint16_t>(bits));
    const int magnitude = bits & 0x7fff;
    ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;
    if (magnitude > format.infinity()) {
      ASSERT_TRUE(std::isnan(value)) << bits;
    } else if (magnitude == format.infinity()) {
      ASSERT_TRUE(std::isinf(value)) << bits;
    } else {
      ASSERT_EQ(std::abs(static_cast<double>(value)), format.magnitude(magnitude)) << bits;
    }
  }
}

TEST_P(SixteenBits, EncodesWhatItDecodes) {
  const Format& format = GetParam();
  for (int bits = 0; bits < 0x10000; ++bits) {
    const std::uint16_t back = format.encode(format.decode(static_cast<std::uint16_t>(bits)));
    if ((bits & 0x7fff) > format.infinity()) {
      ASSERT_GT(back & 0x7fff, format.infinity()) << bits;
      ASSERT_EQ(back & 0x8000, bits & 0x8000) << bits;
    } else {
      ASSERT_EQ(back, bits);
    }
  }
}

TEST_P(SixteenBits, RoundsToNearestEvenAroundEveryValue) {
  const Format& format = GetParam();
  for (int bits = 0; bits < format.infinity(); ++bits) {
    const auto middle = static_cast<float>((format.magnitude(bits) + format.magnitude(bits + 1)) / 2);
    for (const float x : {middle, std::nextafter(middle, 0.f), std::nextafter(middle, kInfinity)}) {
      ASSERT_EQ(format.encode(x), format.nearest(x)) << x;
      ASSERT_EQ(format.encode(-x), format.nearest(-x)) << -x;
    }
  }
}

TEST_P(SixteenBits, RoundsRandomSinglesOfEveryExponent) {
  const Format& format = GetParam();
  CounterRandom random(1, 0);
  for (int i = 0; i < 400'000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(format.decode(format.encode(x))));
    } else {
      ASSERT_EQ(format.encode(x), format.nearest(x)) << x;
    }
  }
}

TEST_P(SixteenBits, NaNsStayNaNsWhateverTheirPayload) {
  for (int bit = 0; bit < 23; ++bit) {
    for (const std::uint32_t sign : {0u, 0x80000000u}) {
      const auto x = std::bit_cast<float>(sign | 0x7f800000u | (1u << bit));
      EXPECT_TRUE(std::isnan(GetParam().decode(GetParam().encode(x)))) << bit;
    }
  }
}

class EveryDType : public testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(DType, EveryDType, testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(EveryDType, AllFiniteFindsOneBadElementAnywhere) {
  const auto size = static_cast<std::int64_t>(bytes_of(GetParam()));
  const float largest = GetParam() == DType::f16 ? 65504.f : 0x1.fep127f;
  for (const std::int64_t count : {1, 3, 7, 15, 17, 31, 33, 63, 65, 127}) {
    std::vector<std::byte> bytes(static_cast<std::size_t>((count + 1) * size));
    const std::vector<float> finite(static_cast<std::size_t>(count), -largest);
    store_f32(GetParam(), finite.data(), bytes.data(), count);
    store_f32(GetParam(), &kNaN, bytes.data() + count * size, 1);  // beyond the end: not looked at
    EXPECT_TRUE(all_finite(GetParam(), bytes.data(), count));
    EXPECT_TRUE(all_finite(GetParam(), bytes.data(), 0));
    for (std::int64_t i = 0; i < count; ++i) {
      for (const float bad : {kNaN, kInfinity, -kInfinity}) {
        store_f32(GetParam(), &bad, bytes.data() + i * size, 1);
        EXPECT_FALSE(all_finite(GetParam(), bytes.data(), count)) << bad << " at " << i << " of " << count;
        store_f32(GetParam(), &largest, bytes.data() + i * size, 1);
      }
    }
  }
}

TEST_P(EveryDType, AllBelowComparesMagnitudesWithTheBound) {
  for (const float bound : {1.f, 65408.f, 65520.f, 0x1.ffp127f, 1.0009765f, 3e-8f, kInfinity}) {
    for (float x = bound > 1e30f ? 1e30f : bound / 4; x <= 4 * bound && std::isfinite(x); x *= 1.0003f) {
      for (const float value : {x, -x}) {
        std::byte stored[4] = {};
        float exact = 0.f;
        store_f32(GetParam(), &value, stored, 1);
        load_f32(GetParam(), stored, &exact, 1);
        ASSERT_EQ(all_below(GetParam(), stored, 1, bound), std::abs(exact) < bound) << value << ", " << bound;
      }
    }
  }
}

TEST_P(EveryDType, OverflowBoundIsTheLeastThatBecomesInfinite) {
  for (const DType second : {DType::f32, DType::f16, DType::bf16}) {
    const auto stored_twice = [&](float x) {
      std::byte first[4], last[4];
      store_f32(GetParam(), &x, first, 1);
      convert(GetParam(), first, second, last, 1);
      load_f32(second, last, &x, 1);
      return x;
    };
    const float bound = overflow_bound(GetParam(), second);
    EXPECT_TRUE(std::isinf(stored_twice(bound))) << to_string(second);
    EXPECT_TRUE(std::isinf(stored_twice(-bound))) << to_string(second);
    EXPECT_TRUE(std::isfinite(stored_twice(std::nextafter(bound, 0.f)))) << to_string(second);
  }
}

TEST_P(EveryDType, ConvertsArraysOfAnyLengthThroughFp32) {
  for (const DType to : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t count : {1, 63, 64, 65, 130}) {
      const auto n = static_cast<std::size_t>(count);
      std::vector<float> values(n);
      CounterRandom random(2, static_cast<std::uint64_t>(count));
      for (float& x : values) x = static_cast<float>(random.normal());
      std::vector<std::byte> source(n * bytes_of(GetParam()));
      store_f32(GetParam(), values.data(), source.data(), count);
      std::vector<float> exact(n);
      load_f32(GetParam(), source.data(), exact.data(), count);
      std::vector<std::byte> expected(n * bytes_of(to));
      store_f32(to, exact.data(), expected.data(), count);
      std::vector<std::byte> converted(n * bytes_of(to) + 1, std::byte{0x5a});
      convert(GetParam(), source.data(), to, converted.data(), count);
      EXPECT_EQ(converted.back(), std::byte{0x5a}) << "wrote beyond the end";
      converted.pop_back();
      EXPECT_EQ(converted, expected) << to_string(to) << ", " << count;
    }
  }
}

TEST_P(EveryDType, ReadsAndWritesAtAnyAddress) {
  const float values[3] = {1.5f, -2.f, 0.25f};
  std::byte bytes[16] = {};
  for (int shift = 0; shift < 4; ++shift) {
    store_f32(GetParam(), values, bytes + shift, 3);
    float back[3] = {};
    load_f32(GetParam(), bytes + shift, back, 3);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(back[i], values[i]);
  }
}

TEST(DType, NamesAndSizes) {
  EXPECT_EQ(bytes_of(DType::f32), 4u);
  EXPECT_EQ(bytes_of(DType::f16), 2u);
  EXPECT_EQ(bytes_of(DType::bf16), 2u);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) EXPECT_EQ(parse_dtype("x", to_string(dtype)), dtype);
  EXPECT_EQ(parse_dtype("x", "fp32"), DType::f32);
  EXPECT_EQ(parse_dtype("x", "fp16"), DType::f16);
  EXPECT_STREQ(to_string(static_cast<DType>(9)), "unknown");
  for (const char* bad : {"", "f64", "F16", "f16 ", "int8"}) {
    try {
      parse_dtype("host_dtype", bad);
      ADD_FAILURE() << "accepted '" << bad << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(std::string(error.what()), concat("host_dtype is '", bad, "'; allowed: f32, f16, bf16"));
    }
  }
}

}  // namespace
}  // namespace tandem
