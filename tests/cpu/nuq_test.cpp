// Codec nuq: what its blocks hold, read by their description alone.
#include "cpu/codec/nuq.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/support/nuq_heads.h"

namespace tandem::cpu {
namespace {

using testing::attention_shape;
using testing::CodedHead;
using testing::kNuqHeads;
using testing::nuq_calibration;
using testing::nuq_params;
using testing::nuq_shape;
using testing::NuqHead;
using testing::options;

/// One element of a block as codec/nuq.h describes it: the level of its code, and its residual or 0.
struct Element {
  int code;
  float residual;
};

int bit_field(const std::byte* unit, int bits, int field, int lane) {
  const auto line = [&](int i) { return std::to_integer<int>(unit[16 * i + lane]); };
  if (bits == 4) return line(field / 2) >> (4 * (field % 2)) & 15;
  const int lower = line(field / 4) >> (2 * (field % 4)) & 3;
  return bits == 2 ? lower : lower | (line(2) >> field & 1) << 2;
}

float residual_at(const std::byte* words, int row, int per_row, int place) {
  for (int i = 0; i < per_row; ++i) {
    std::uint32_t word;
    std::memcpy(&word, words + 4 * (row * per_row + i), 4);
    const auto value = std::bit_cast<float>(word & ~0x3ffu);
    if (static_cast<int>(word & 0x3ff) == place && value != 0.f) return value;
  }
  return 0.f;
}

Element key_element(const BlockFormat& f, const std::byte* block, int row, int place) {
  const std::byte* unit = block + f.k_codes + place / 2 * 16 * f.bits;
  return {bit_field(unit, f.bits, place % 2 * 4 + row / 16, row % 16),
          residual_at(block + f.k_side, row, f.outliers, place)};
}

Element value_element(const BlockFormat& f, const std::byte* block, int row, int d) {
  const std::byte* unit = block + f.v_codes + (row / 8 * (f.padded_v / 16) + d / 16) * 16 * f.bits;
  return {bit_field(unit, f.bits, row % 8, d % 16), residual_at(block + f.v_side + 512, row, f.outliers_v, d)};
}

float value_scale(const BlockFormat& f, const std::byte* block, int row) {
  float scale;
  std::memcpy(&scale, block + f.v_side + 4 * row, 4);
  return scale;
}

/// Pre-RoPE keys in order of pairs, in double, by turning each back as engines turn them.
std::vector<double> turned_back(const CodedHead& head, std::int64_t row) {
  const BlockFormat& f = head.codec.format();
  std::vector<float> key(head.k.begin() + row * f.padded_k, head.k.begin() + (row + 1) * f.padded_k);
  rotate(f.rope->rope(), f.dim_k, -(head.first_position + row), key.data());
  std::vector<double> channels;
  for (int i = 0; i < f.padded_k / 2; ++i) {
    const auto [first, second] = f.rope->elements(i);
    channels.push_back(key[static_cast<std::size_t>(first)]);
    channels.push_back(key[static_cast<std::size_t>(second)]);
  }
  return channels;
}

class NuqBlocks : public ::testing::TestWithParam<std::tuple<NuqHead, int /*bits*/>> {};
INSTANTIATE_TEST_SUITE_P(Heads, NuqBlocks,
                         ::testing::Combine(::testing::ValuesIn(kNuqHeads), ::testing::Values(2, 3, 4)));

TEST_P(NuqBlocks, KeepNonOutliersToHalfAGapAndOutliersToTheirFormat) {
  const auto& [head_case, bits] = GetParam();
  CodedHead head(nuq_params(head_case, bits), attention_shape(head_case), 64, options(1.0, 1.0, head_case, 1000));
  const BlockFormat& f = head.codec.format();
  int outliers = 0;
  for (int row = 0; row < 64; ++row) {
    const auto channels = turned_back(head, row);
    int of_row = 0;
    for (int c = 0; c < f.padded_k; ++c) {
      const float* levels = f.levels_k + c * 16;
      const double x = channels[static_cast<std::size_t>(c)];
      const auto [code, residual] = key_element(f, head.blocks.data(), row, c);
      const double error = std::abs(x - static_cast<double>(levels[code]) - static_cast<double>(residual));
      const double rounding = 1e-6 * (1 + std::abs(x));
      const double beyond = std::abs(x - f.channel_offset[c]) - f.channel_scale[c];
      if (residual != 0.f) {
        ++of_row;
        EXPECT_GE(beyond, -rounding);
        EXPECT_LE(error, std::abs(residual) * 0x1p-14 * 1.001 + rounding);
        continue;
      }
      double nearest = INFINITY;
      for (int j = 0; j < 1 << bits; ++j) nearest = std::min(nearest, std::abs(x - static_cast<double>(levels[j])));
      EXPECT_LE(error, nearest + rounding);
      const double gap = code + 1 < 1 << bits && x > levels[code] ? levels[code + 1] - levels[code]
                         : code > 0 && x < levels[code]           ? levels[code] - levels[code - 1]
                                                                  : INFINITY;
      EXPECT_LE(error, gap / 2 + rounding);
    }
    EXPECT_LE(of_row, f.outliers);
    outliers += of_row;
  }
  if (head_case.dim_k >= 64) {
    EXPECT_GT(outliers, 10);  // 1 % of 64 rows of 64 and more
  }
}

TEST_P(NuqBlocks, KeepValuesToHalfAGapAndTheExtremesToTheirFormat) {
  const auto& [head_case, bits] = GetParam();
  CodedHead head(nuq_params(head_case, bits), attention_shape(head_case), 64, options(1.0, 1.0, head_case));
  const BlockFormat& f = head.codec.format();
  for (int row = 0; row < 64; ++row) {
    const float scale = value_scale(f, head.blocks.data(), row);
    const float* v = head.v.data() + row * f.padded_v;
    double widest = 1 + f.levels_v[0];  // of the levels' gaps and the ends' distances to -1 and 1
    for (int j = 0; j + 1 < 1 << bits; ++j) widest = std::max<double>(widest, (f.levels_v[j + 1] - f.levels_v[j]) / 2);
    widest = std::max<double>(widest, 1 - f.levels_v[(1 << bits) - 1]);
    int extremes = 0;
    for (int d = 0; d < f.dim_v; ++d) {
      const float decoded = head.decoded_v[static_cast<std::size_t>(row * f.padded_v + d)];
      const auto [code, residual] = value_element(f, head.blocks.data(), row, d);
      if (residual != 0.f) {
        ++extremes;
        EXPECT_NEAR(decoded, v[d], std::abs(residual) * 0x1.01p-14 + 1e-6);
      } else {
        EXPECT_NEAR(decoded, v[d], widest * scale + 1e-6);
      }
    }
    EXPECT_LE(extremes, f.outliers_v);
    const auto [low, high] = std::minmax_element(v, v + f.dim_v);
    if (f.outliers_v > 0) {
      EXPECT_NEAR(head.decoded_v[static_cast<std::size_t>(row * f.padded_v + (low - v))], *low, 1e-3);
      EXPECT_NEAR(head.decoded_v[static_cast<std::size_t>(row * f.padded_v + (high - v))], *high, 1e-3);
    }
  }
}

TEST_P(NuqBlocks, StandForTheirKeysTurnedToTheirPositions) {
  const auto& [head_case, bits] = GetParam();
  for (const std::int64_t position : {0, 64, 1000003}) {
    CodedHead head(nuq_params(head_case, bits), attention_shape(head_case), 64, options(1.0, 1.0, head_case, position));
    const BlockFormat& f = head.codec.format();
    for (int row = 0; row < 64; ++row) {
      std::vector<float> key(static_cast<std::size_t>(f.padded_k));
      for (int c = 0; c < f.padded_k; ++c) {
        const auto [first, second] = f.rope->elements(c / 2);
        const auto [code, residual] = key_element(f, head.blocks.data(), row, c);
        key[static_cast<std::size_t>(c % 2 == 0 ? first : second)] = f.levels_k[c * 16 + code] + residual;
      }
      rotate(head_case.rope, f.dim_k, position + row, key.data());
      for (std::size_t d = 0; d < key.size(); ++d)
        EXPECT_NEAR(head.decoded_k[static_cast<std::size_t>(row * f.padded_k) + d], key[d], 2e-6);
    }
    std::vector<float> k(static_cast<std::size_t>(f.padded_k)), v(static_cast<std::size_t>(f.padded_v));
    head.codec.decode(head.blocks.data(), position, 37, 1, k.data(), v.data());  // a part is that part of the whole
    EXPECT_TRUE(std::equal(k.begin(), k.end(), head.decoded_k.begin() + 37 * f.padded_k));
    EXPECT_TRUE(std::equal(v.begin(), v.end(), head.decoded_v.begin() + 37 * f.padded_v));
  }
}

TEST_P(NuqBlocks, PadWithZeros) {
  const auto& [head_case, bits] = GetParam();
  CodedHead head(nuq_params(head_case, bits), attention_shape(head_case), 64, options(1.0, 1.0, head_case));
  const BlockFormat& f = head.codec.format();
  for (int row = 0; row < 64; ++row) {
    for (int d = f.dim_k; d < f.padded_k; ++d)
      EXPECT_EQ(head.decoded_k[static_cast<std::size_t>(row * f.padded_k + d)], 0.f);
    for (int d = f.dim_v; d < f.padded_v; ++d)
      EXPECT_EQ(head.decoded_v[static_cast<std::size_t>(row * f.padded_v + d)], 0.f);
  }
}

TEST_P(NuqBlocks, HaveTheSameWithAndWithoutACapThatNoTokenReaches) {
  const auto& [head_case, bits] = GetParam();
  const auto params = nuq_params(head_case, bits, 0.1);
  const auto tables = nuq_tables(params.calibration, 0, 0, bits);
  CodedHead head(params, attention_shape(head_case), 64,
                 options(0.5, 1.0, head_case));  // half as wide: few are outside
  const BlockFormat& f = head.codec.format();
  const BlockFormat uncapped = nuq_format(*tables, bits, f.padded_k);
  AlignedVector<std::byte> block(static_cast<std::size_t>(uncapped.block_bytes));
  encode_nuq(uncapped, head.k.data(), head.v.data(), 0, block.data());
  AlignedVector<float> k(head.k.size()), v(head.v.size());
  decode_nuq(uncapped, block.data(), 0, 0, 64, k.data(), v.data());
  EXPECT_EQ(k, head.decoded_k);
  EXPECT_EQ(v, head.decoded_v);
}

TEST(NuqOutliers, BeyondTheCapAreTheSmallestResiduals) {
  const NuqHead head_case{64, 64, {1e4, 0, false}};
  const auto params = nuq_params(head_case, 4);
  CodedHead head(params, attention_shape(head_case), 64, options(4.0, 1.0, head_case));  // about half are outside
  const BlockFormat& f = head.codec.format();
  ASSERT_EQ(f.outliers, 3);
  for (int row = 0; row < 64; ++row) {
    const auto channels = turned_back(head, row);
    float least_kept = INFINITY, most_lost = 0.f;
    int kept = 0;
    for (int c = 0; c < f.padded_k; ++c) {
      const auto [code, residual] = key_element(f, head.blocks.data(), row, c);
      const auto lost = static_cast<float>(std::abs(channels[static_cast<std::size_t>(c)] - f.levels_k[c * 16 + code]));
      if (residual != 0.f) {
        ++kept;
        least_kept = std::min(least_kept, std::abs(residual));
      } else {
        most_lost = std::max(most_lost, lost);
        // clamped to an end, as all beyond it are
        const double x = channels[static_cast<std::size_t>(c)];
        if (x > f.levels_k[c * 16 + 15] || x < f.levels_k[c * 16]) {
          EXPECT_EQ(code, x > 0 ? 15 : 0);
        }
      }
    }
    EXPECT_EQ(kept, 3);
    EXPECT_GE(least_kept * 1.001f, most_lost);
  }
}

TEST(NuqBlockFormat, TakesWhatItSays) {
  const NuqHead head{128, 128, {1e4, 0, false}};
  const auto bytes = [&](int bits, double outliers) {
    const auto params = nuq_params(head, bits, outliers);
    const BlockFormat f = BlockCodec(params, attention_shape(head), head.rope, 0, 0).format();
    EXPECT_EQ(f.block_bytes % 64, 0);
    EXPECT_EQ(f.block_bytes, f.code_bytes);
    return f.block_bytes / 64;
  };
  EXPECT_EQ(bytes(4, 0.01), 160);
  EXPECT_EQ(bytes(3, 0.01), 128);
  EXPECT_EQ(bytes(2, 0.01), 96);
  EXPECT_EQ(bytes(4, 0.0), 136);
  EXPECT_EQ(bytes(3, 0.0), 104);
  EXPECT_EQ(bytes(2, 0.0), 72);
}

TEST(NuqBlockFormat, TakesTheTablesOfItsLayerAndHead) {
  NuqShape shape{2, 3, 16, 16, {}, 0.01};
  const auto calibration = nuq_calibration(shape, false);
  CodecParams params;
  params.kind = CodecKind::nuq;
  params.calibration = calibration;
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 3; ++head) {
      const BlockCodec codec(params, resolved({2, 3, 3, 16, 16, 0.f, 0.f}), {}, layer, head);
      for (std::size_t c = 0; c < 16; ++c) {
        const auto& [offset, scale] = calibration->layer(layer).channels[static_cast<std::size_t>(head) * 16 + c];
        EXPECT_EQ(codec.format().channel_offset[c], offset);
        EXPECT_EQ(codec.format().channel_scale[c], scale);
      }
      EXPECT_EQ(codec.format().levels_v[5], calibration->layer(layer).of_v(4)[5]);
    }
  }
}

TEST(NuqBlockFormat, ConstantChannelsAndRowsAreExact) {
  const NuqHead head_case{16, 16, {}};
  NuqShape shape = nuq_shape(head_case);
  std::vector<float> k(50 * 16, 3.25f), v(50 * 16, -2.f);
  const std::vector<std::int32_t> bits{2};
  CodecParams params;
  params.kind = CodecKind::nuq;
  params.bits = 2;
  params.calibration =
      std::make_shared<NuqCalibration>(shape, std::vector{fit_nuq_layer(shape, {50, k.data(), v.data()}, bits)});
  CodedHead head(params, attention_shape(head_case), 64);
  std::fill(head.k.begin(), head.k.end(), 3.25f);
  std::fill(head.v.begin(), head.v.end(), 7.f);
  head.k[5] = -1.f;  // an outlier of a channel that never had any
  head.encode();
  EXPECT_EQ(head.decoded_k, head.k);
  EXPECT_EQ(head.decoded_v, head.v);
}

TEST(NuqBlockFormat, HoldsTheLargestMagnitudes) {
  for (const auto& head_case : kNuqHeads) {
    for (const int bits : {2, 3, 4}) {
      CodedHead head(nuq_params(head_case, bits), attention_shape(head_case), 64,
                     options(2e15, 2e15, head_case, 1000003));
      for (auto* x : {&head.k, &head.v})
        for (float& y : *x) y = std::clamp(y, -9.9e15f, 9.9e15f);
      head.encode();
      for (const float x : head.decoded_k) ASSERT_TRUE(std::isfinite(x));
      for (const float x : head.decoded_v) ASSERT_TRUE(std::isfinite(x));
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
