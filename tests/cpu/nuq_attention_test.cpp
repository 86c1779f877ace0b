// Attention over blocks of codec nuq: that of the rows which they stand for, on every instruction set.
#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/support/attention_head.h"
#include "tests/support/nuq_heads.h"

namespace tandem::cpu {
namespace {

using testing::attention_shape;
using testing::CodedHead;
using testing::kNuqHeads;
using testing::nuq_params;
using testing::NuqHead;
using testing::options;
using testing::relative_error;

class NuqAttention : public ::testing::TestWithParam<std::tuple<Isa, NuqHead, int /*bits*/>> {
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
                         ::testing::Combine(::testing::ValuesIn(available_isas()), ::testing::ValuesIn(kNuqHeads),
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
  const NuqHead head_case{128, 128, {5e5, 0, false}};
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
