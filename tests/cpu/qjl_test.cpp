// The keys' part of QJL: what is stored, and the laws of the estimate.
#include "cpu/codec/qjl.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/codec/block_codec.h"
#include "runtime/base/error.h"
#include "tests/support/moments.h"
#include "tests/support/qjl_keys.h"

namespace tandem::cpu {
namespace {

using testing::CodedKeys;
using testing::normal_rows;
using testing::qjl;

/// Normal keys of which a few channels are ten times as large in each group, other ones in the second.
AlignedVector<float> keys_with_outliers(int dim, std::uint64_t seed) {
  auto keys = normal_rows(kQjlBlockRows, dim, seed);
  for (int r = 0; r < kQjlBlockRows; ++r) {
    for (int o = 0; o < 3; ++o)
      keys[static_cast<std::size_t>(r * padded(dim) + (5 + 7 * o + r / kQjlGroupRows) % dim)] *= 10;
  }
  return keys;
}

struct Case {
  int dim, sketch_bits, outliers, outlier_bits;
};

class QjlKeys : public ::testing::TestWithParam<Case> {
 protected:
  const Case& c() const { return GetParam(); }
  const float* key(int row) const { return keys_.data() + static_cast<std::ptrdiff_t>(row) * padded(c().dim); }

  AlignedVector<float> keys_ = keys_with_outliers(GetParam().dim, 3);
  CodedKeys coded_{qjl(GetParam().sketch_bits, GetParam().outliers, GetParam().outlier_bits), GetParam().dim,
                   keys_.data()};
};

INSTANTIATE_TEST_SUITE_P(Qjl, QjlKeys,
                         ::testing::Values(Case{64, 64, 0, 0}, Case{64, 256, 8, 128}, Case{80, 192, 1, 64},
                                           Case{96, 320, 32, 320}, Case{100, 64, 3, 0}, Case{128, 256, 8, 0},
                                           Case{128, 1024, 7, 512}, Case{256, 512, 8, 64}, Case{16, 64, 8, 0},
                                           Case{1, 64, 0, 0}));

TEST_P(QjlKeys, OutlierChannelsAreThoseOfLargestNormInTheGroup) {
  for (const int group : {0, 1}) {
    std::vector<std::pair<double, int>> channels;  // sorts by falling norm, then by number
    for (int ch = 0; ch < c().dim; ++ch) {
      double square = 0;
      for (int t = 0; t < kQjlGroupRows; ++t) square += std::pow(key(group * kQjlGroupRows + t)[ch], 2);
      channels.emplace_back(-square, ch);
    }
    std::sort(channels.begin(), channels.end());
    for (int i = 0; i < c().dim; ++i)
      EXPECT_EQ(coded_.is_outlier(group * kQjlGroupRows, channels[static_cast<std::size_t>(i)].second),
                i < c().outliers);
  }
}

TEST_P(QjlKeys, BitsAreTheSignsOfTheProjection) {
  int clear = 0;
  for (int r = 0; r < kQjlBlockRows; ++r) {
    for (const bool outlier : {false, true}) {
      const auto sketch = coded_.sketch(key(r), r, outlier);
      const int bits = outlier ? coded_.format.outlier_bits : coded_.format.sketch_bits;
      for (int j = 0; j < bits; ++j) {
        const double x = sketch[static_cast<std::size_t>(j)];
        if (std::abs(x) < 1e-4) continue;  // a sum in fp32 may round to the other side
        ASSERT_EQ(coded_.sign(r, j, outlier), x > 0 ? 1 : -1) << r << ", " << j << ", " << outlier;
        ++clear;
      }
    }
  }
  EXPECT_GT(clear, 0.99 * kQjlBlockRows * (coded_.format.sketch_bits + coded_.format.outlier_bits));
}

TEST_P(QjlKeys, NormsAreThoseOfBothParts) {
  for (int r = 0; r < kQjlBlockRows; ++r) {
    double squares[2] = {};
    for (int ch = 0; ch < c().dim; ++ch) squares[coded_.is_outlier(r, ch) ? 1 : 0] += std::pow(key(r)[ch], 2);
    for (const bool outlier : {false, true}) {
      if (outlier && c().outliers == 0) continue;
      const double norm = std::sqrt(squares[outlier ? 1 : 0]);
      EXPECT_NEAR(coded_.norm(r, outlier), norm, norm * (1.0 / 512 + 1e-6));
    }
  }
}

TEST_P(QjlKeys, DecodedKeysGiveTheEstimate) {
  const auto queries = normal_rows(3, c().dim, 4);
  const auto decoded = coded_.decoded(23, 17);
  for (int r = 23; r < 40; ++r) {
    const float* k = decoded.data() + static_cast<std::ptrdiff_t>(r - 23) * padded(c().dim);
    for (int v = 0; v < 3; ++v) {
      const float* q = queries.data() + static_cast<std::ptrdiff_t>(v) * padded(c().dim);
      const double size = std::sqrt(testing::dot(q, q, c().dim) * testing::dot(key(r), key(r), c().dim));
      EXPECT_NEAR(testing::dot(q, k, padded(c().dim)), coded_.estimate(q, r), 1e-5 * size);
    }
  }
}

/// Where q has nothing in the outlier channels, the rest is what a code without outliers makes of keys without them.
TEST_P(QjlKeys, InlierPartIsACodeWithoutOutliers) {
  auto rest = keys_;
  for (int r = 0; r < kQjlBlockRows; ++r) {
    for (int ch = 0; ch < c().dim; ++ch) {
      if (coded_.is_outlier(r, ch)) rest[static_cast<std::size_t>(r * padded(c().dim) + ch)] = 0;
    }
  }
  const CodedKeys without(qjl(c().sketch_bits, 0), c().dim, rest.data());
  for (int r = 0; r < kQjlBlockRows; ++r) {
    auto q = normal_rows(1, c().dim, 5);
    for (int ch = 0; ch < c().dim; ++ch) {
      if (coded_.is_outlier(r, ch)) q[static_cast<std::size_t>(ch)] = 0;
    }
    EXPECT_DOUBLE_EQ(coded_.estimate(q.data(), r), without.estimate(q.data(), r)) << r;
  }
}

TEST_P(QjlKeys, LargerOutliersLeaveTheRestAlone) {
  auto larger = keys_;
  for (int r = 0; r < kQjlBlockRows; ++r) {
    for (int ch = 0; ch < c().dim; ++ch) {
      if (coded_.is_outlier(r, ch)) larger[static_cast<std::size_t>(r * padded(c().dim) + ch)] *= 100;
    }
  }
  const CodedKeys other(qjl(c().sketch_bits, c().outliers, c().outlier_bits), c().dim, larger.data());
  const auto q = normal_rows(1, c().dim, 5);
  for (int r = 0; r < kQjlBlockRows; ++r) {
    const auto sketch = coded_.sketch(q.data(), r, false);
    EXPECT_EQ(other.estimate(sketch, r, false), coded_.estimate(sketch, r, false));
  }
}

TEST(QjlKeys, EqualNormsGiveTheLowestChannels) {
  const AlignedVector<float> keys(static_cast<std::size_t>(kQjlBlockRows * 64), -2.f);
  const CodedKeys coded(qjl(64, 5), 64, keys.data());
  for (int ch = 0; ch < 64; ++ch) {
    EXPECT_EQ(coded.is_outlier(0, ch), ch < 5);
    EXPECT_EQ(coded.is_outlier(63, ch), ch < 5);
  }
}

TEST(QjlKeys, TheNullKeyIsAllMinusSigns) {
  const AlignedVector<float> keys(static_cast<std::size_t>(kQjlBlockRows * 64), 0.f);
  const CodedKeys coded(qjl(128, 4), 64, keys.data());
  for (std::size_t i = 0; i < static_cast<std::size_t>(coded.format.k_side + 2 * kQjlNormBytes); ++i)
    EXPECT_EQ(coded.block[i], std::byte{0}) << i;
}

/// Bytes of K: signs, two of a norm for each part, and the channels' numbers, of which 32 tokens share. V takes 48, and
/// what fills the lines of K is no code.
TEST(QjlKeys, SizesAreAsComputed) {
  const auto shape = resolved({1, 1, 1, 128, 128, 0.f, 0.f});
  const auto bytes = [&](const CodecParams& params) {
    const BlockFormat format = BlockCodec(params, shape, {}, 0, 0).format();
    EXPECT_EQ(format.block_rows, 64);
    EXPECT_LT(format.block_bytes - format.code_bytes, 64);
    return static_cast<double>(format.code_bytes) / format.block_rows;
  };
  EXPECT_EQ(bytes(qjl(256, 0)), 34 + 48);
  EXPECT_EQ(bytes(qjl(192, 0)), 26 + 48);
  EXPECT_EQ(bytes(qjl(256, 8, 256)), 68.25 + 48);
  EXPECT_EQ(bytes(qjl(256, 8, 0)), 68.25 + 48);
  EXPECT_EQ(bytes(qjl(512, 8, 128)), 84.25 + 48);
}

class Extremes : public ::testing::TestWithParam<float /*magnitude*/> {};

INSTANTIATE_TEST_SUITE_P(Qjl, Extremes, ::testing::Values(0.f, 1e-44f, 1e-30f, 1.f, 0.999e16f));

TEST_P(Extremes, DecodedKeysAreFinite) {
  auto keys = normal_rows(kQjlBlockRows, 256, 9);
  for (float& x : keys) x = std::copysign(GetParam(), x);
  for (const int outliers : {0, 32}) {
    for (const bool orthogonal : {false, true}) {
      const CodedKeys coded(qjl(64, outliers, 0, orthogonal), 256, keys.data());
      const auto decoded = coded.decoded(0, kQjlBlockRows);
      double most = 0;
      for (const float x : decoded) {
        ASSERT_TRUE(std::isfinite(x));
        most = std::max(most, std::abs(static_cast<double>(x)));
      }
      EXPECT_EQ(most == 0, GetParam() < 1e-38f);  // as small as that, the factor of a norm rounds to nothing
    }
  }
}

TEST(QjlParams, AreCheckedOneByOne) {
  const auto message = [](const CodecParams& params, int dim_k, int dim_v = 128) -> std::string {
    try {
      validate(params, resolved({1, 1, 1, dim_k, dim_v, 0.f, 0.f}), {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(qjl(64, 0), 1), "");
  EXPECT_EQ(message(qjl(1024, 32, 1024), 256), "");
  EXPECT_EQ(message(qjl(256, 8, 64), 16), "");
  for (const int bits : {-64, 0, 63, 96, 1088})
    EXPECT_EQ(message(qjl(bits, 8), 128),
              concat("codec sketch_bits of qjl is ", bits, "; allowed: multiples of 64, 64 to 1024"));
  for (const int bits : {-64, 32, 65, 320})
    EXPECT_EQ(message(qjl(256, 8, bits), 128),
              concat("codec outlier_bits of qjl is ", bits,
                     "; allowed: multiples of 64 up to sketch_bits, which is 256, or 0 for as many"));
  for (const auto& [outliers, dim_k, most] : {std::tuple{-1, 128, 32}, {33, 128, 32}, {9, 16, 8}, {1, 1, 0}})
    EXPECT_EQ(message(qjl(256, outliers), dim_k),
              concat("codec outliers of qjl is ", outliers, "; allowed: 0 to ", most, " (32, and half of head_dim_k)"));
  EXPECT_EQ(message(qjl(256, 8), 257), "head_dim_k is 257; allowed with codec qjl: up to 256");
  EXPECT_EQ(message(qjl(256, 8), 128, 80), "head_dim_v is 80; allowed with codec qjl: multiples of 32");
}

}  // namespace
}  // namespace tandem::cpu
