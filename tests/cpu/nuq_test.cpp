// Codec nuq: what its blocks hold, read by their description alone, and attention over them on every instruction set.
#include "cpu/codec/nuq.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/support/attention_head.h"
#include "tests/support/coded_head.h"
#include "tests/support/nuq_fixture.h"

namespace tandem::cpu {
namespace {

using testing::CodedHead;
using testing::nuq_calibration;
using testing::relative_error;

/// Dimensions of K and V and how K is rotated.
struct HeadCase {
  std::int32_t dim_k, dim_v;
  RopeParams rope;
};

const HeadCase kHeads[] = {
    {64, 64, {1e6, 0, false}},
    {80, 80, {1e4, 32, false}},
    {96, 96, {1e4, 0, true}},
    {128, 128, {5e5, 0, false}},
    {256, 256, {1e6, 0, false}},
    {72, 40, {1e4, 36, true}},
    {17, 33, {}},
    {1, 1, {}},
};

NuqShape nuq_shape(const HeadCase& head, double outliers = 0.01) {
  return {1, 1, head.dim_k, head.dim_v, head.rope, outliers};
}

CodecParams nuq_params(const HeadCase& head, int bits, double outliers = 0.01) {
  static std::vector<std::shared_ptr<const NuqCalibration>> known;  // learning takes longer than most tests
  const NuqShape shape = nuq_shape(head, outliers);
  auto found = std::find_if(known.begin(), known.end(), [&](const auto& c) { return c->shape() == shape; });
  if (found == known.end()) found = known.insert(known.end(), nuq_calibration(shape));
  CodecParams params;
  params.kind = CodecKind::nuq;
  params.bits = bits;
  params.calibration = *found;
  return params;
}

/// `scale` of queries that come scaled: CodedHead's are.
AttentionShape attention_shape(const HeadCase& head, int group = 1) {
  return resolved({1, group, 1, head.dim_k, head.dim_v, 0.f, 0.f});
}

CodedHead::Options options(double key_scale, double value_scale, const HeadCase& head, std::int64_t position = 0) {
  return {.key_scale = key_scale, .value_scale = value_scale, .first_position = position, .rope = head.rope};
}

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

class NuqBlocks : public ::testing::TestWithParam<std::tuple<HeadCase, int /*bits*/>> {};
INSTANTIATE_TEST_SUITE_P(Heads, NuqBlocks, ::testing::Combine(::testing::ValuesIn(kHeads), ::testing::Values(2, 3, 4)));

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
  const HeadCase head_case{64, 64, {1e4, 0, false}};
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
  const HeadCase head{128, 128, {1e4, 0, false}};
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
  const HeadCase head_case{16, 16, {}};
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
  for (const auto& head_case : kHeads) {
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

class NuqAttention : public ::testing::TestWithParam<std::tuple<Isa, HeadCase, int /*bits*/>> {
 protected:
  /// Attention of the first `group` queries over rows [first, end), against that over the decoded rows.
  static void expect_matches(const Kernels& kernels, const CodedHead& head, int group, std::int64_t first,
                             std::int64_t end, const LogitRule& logits = {}) {
    const BlockFormat& f = head.codec.format();
    const std::int64_t position = head.first_position + end;
    std::vector<float> out(static_cast<std::size_t>(group * f.dim_v), 7.f), lse(static_cast<std::size_t>(group), 7.f);
    AttentionScratch scratch;
    const QueryBlock queries{head.q.data(), &position, 1, group};
    AttentionPass pass(kernels, f, queries, logits, scratch);
    pass.add_coded_run(head.blocks.data(), first, end, head.first_position);
    pass.finish({out.data(), lse.data(), group, f.dim_v});
    for (int h = 0; h < group; ++h) {
      const auto expected = head.expected(head.decoded_k, head.decoded_v, h, first, end, {}, logits.softcap);
      for (std::size_t d = 0; d < expected.out.size(); ++d)
        EXPECT_NEAR(out[static_cast<std::size_t>(h * f.dim_v) + d], expected.out[d], 2e-5) << first << " to " << end;
      if (first == end) {
        EXPECT_EQ(lse[static_cast<std::size_t>(h)], expected.lse);
      } else {
        EXPECT_NEAR(lse[static_cast<std::size_t>(h)], expected.lse, 2e-5) << first << " to " << end;
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Isas, NuqAttention,
                         ::testing::Combine(::testing::ValuesIn(available_isas()), ::testing::ValuesIn(kHeads),
                                            ::testing::Values(2, 3, 4)));

TEST_P(NuqAttention, IsThatOfTheDecodedRows) {
  const auto& [isa, head_case, bits] = GetParam();
  const Kernels& kernels = kernels_for(isa);
  for (const std::int64_t position : {0, 1000003}) {
    const CodedHead head(nuq_params(head_case, bits), attention_shape(head_case, 8), 200,
                         options(1.0, 1.0, head_case, position));
    for (const int group : {1, 2, 4, 7, 8}) {
      for (const std::int64_t rows : {0, 1, 63, 64, 65, 200}) expect_matches(kernels, head, group, 0, rows);
      expect_matches(kernels, head, group, 70, 131, {1.5f, nullptr, 0});
    }
  }
}

TEST_P(NuqAttention, WithoutOutliersIsThatOfTheDecodedRows) {
  const auto& [isa, head_case, bits] = GetParam();
  const CodedHead head(nuq_params(head_case, bits, 0.0), attention_shape(head_case, 4), 130,
                       options(1.0, 1.0, head_case, 4099));
  EXPECT_EQ(head.codec.format().outliers + head.codec.format().outliers_v, 0);
  expect_matches(kernels_for(isa), head, 4, 0, 130);
}

TEST_P(NuqAttention, DoesNotDependOnTheOtherHeadsOfTheGroup) {
  const auto& [isa, head_case, bits] = GetParam();
  const CodedHead head(nuq_params(head_case, bits), attention_shape(head_case, 7), 130,
                       options(1.0, 1.0, head_case, 9));
  const BlockFormat& f = head.codec.format();
  const auto attend = [&](int first, int count) {
    const std::int64_t position = 1000;
    std::vector<float> out(static_cast<std::size_t>(count * f.dim_v)), lse(static_cast<std::size_t>(count));
    AttentionScratch scratch;
    const QueryBlock queries{head.q.data() + first * f.padded_k, &position, 1, count};
    const LogitRule logits;
    AttentionPass pass(kernels_for(isa), f, queries, logits, scratch);
    pass.add_coded_run(head.blocks.data(), 0, 130, 9);
    pass.finish({out.data(), lse.data(), count, f.dim_v});
    out.insert(out.end(), lse.begin(), lse.end());
    return out;
  };
  const auto together = attend(0, 7);
  for (int h = 0; h < 7; ++h) {
    const auto alone = attend(h, 1);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end() - 1, together.begin() + h * f.dim_v)) << h;
    EXPECT_EQ(alone.back(), together[static_cast<std::size_t>(7 * f.dim_v + h)]);
  }
}

TEST_P(NuqAttention, StaysFiniteAtExtremeMagnitudes) {
  const auto& [isa, head_case, bits] = GetParam();
  for (const auto& [key_scale, value_scale] : {std::pair{0.0, 0.0}, {1e-40, 1e-40}, {60.0, 1e15}, {1e15, 1e15}}) {
    const CodedHead head(nuq_params(head_case, bits), attention_shape(head_case, 2), 130,
                         options(key_scale, value_scale, head_case, 77));
    const BlockFormat& f = head.codec.format();
    const std::int64_t position = 1000;
    std::vector<float> out(static_cast<std::size_t>(2 * f.dim_v)), lse(2);
    AttentionScratch scratch;
    const QueryBlock queries{head.q.data(), &position, 1, 2};
    const LogitRule logits;
    AttentionPass pass(kernels_for(isa), f, queries, logits, scratch);
    pass.add_coded_run(head.blocks.data(), 0, 130, 77);
    pass.finish({out.data(), lse.data(), 2, f.dim_v});
    for (const float x : out) ASSERT_TRUE(std::isfinite(x));
    for (int h = 0; h < 2; ++h) {
      const auto expected = head.expected(head.decoded_k, head.decoded_v, h, 0, 130);
      EXPECT_NEAR(lse[static_cast<std::size_t>(h)], expected.lse, 2e-6 * std::abs(expected.lse) + 1e-3);
    }
  }
}

/// How far attention over the codes is from that over what was coded, of independent normal keys and values.
TEST(NuqAccuracy, LosesLittleOfNormalHeads) {
  const HeadCase head_case{128, 128, {5e5, 0, false}};
  const double most[] = {0.4, 0.23, 0.12};
  double before = 1;
  for (const int bits : {2, 3, 4}) {
    const CodedHead head(nuq_params(head_case, bits), attention_shape(head_case, 4), 960,
                         options(1.0, 1.0, head_case, 64));
    double error = 0;
    for (int h = 0; h < 4; ++h) {
      const auto coded = head.expected(head.decoded_k, head.decoded_v, h, 0, 960);
      const auto exact = head.expected(head.k, head.v, h, 0, 960);
      const std::vector<float> out(coded.out.begin(), coded.out.end());
      error += relative_error(out.data(), exact.out) / 4;
    }
    RecordProperty("error_" + std::to_string(bits), std::to_string(error));
    EXPECT_LT(error, most[bits - 2]);
    EXPECT_LT(error, before);
    before = error;
  }
}

}  // namespace
}  // namespace tandem::cpu
