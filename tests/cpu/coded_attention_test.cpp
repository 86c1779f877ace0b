// Attention over coded blocks: that of the rows which the codes stand for, on every instruction set.
#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/support/codecs.h"
#include "tests/support/coded_head.h"

namespace tandem::cpu {
namespace {

using testing::codecs_under_test;
using testing::CodedHead;
using testing::relative_error;

struct Output {
  Output(int vectors, int dim_v)
      : out(static_cast<std::size_t>(vectors * dim_v), 7.f), lse(static_cast<std::size_t>(vectors), 7.f), dim(dim_v) {}
  [[nodiscard]] PartialAttention view() { return {out.data(), lse.data(), static_cast<std::int64_t>(lse.size()), dim}; }
  [[nodiscard]] const float* vector(int v) const { return out.data() + static_cast<std::ptrdiff_t>(v) * dim; }
  std::vector<float> out, lse;
  std::int64_t dim;
};

Output attend(Isa isa, const CodedHead& head, std::int64_t first, std::int64_t end,
              const std::vector<std::int64_t>& positions, const LogitRule& logits = {}) {
  const BlockFormat& format = head.codec.format();
  const int group = head.shape.group_size();
  const QueryBlock queries{head.q.data(), positions.data(), static_cast<int>(positions.size()), group};
  AttentionScratch scratch;
  AttentionPass pass(kernels_for(isa), format, queries, logits, scratch);
  pass.add_coded_run(head.blocks.data(), first, end, head.first_position);
  Output output(queries.num_vectors(), format.dim_v);
  pass.finish(output.view());
  return output;
}

void expect_near(const Output& output, int vector, const reference::Result& expected, double tolerance = 1e-5) {
  EXPECT_LT(relative_error(output.vector(vector), expected.out), tolerance);
  if (std::isinf(expected.lse)) {
    EXPECT_EQ(output.lse[static_cast<std::size_t>(vector)], expected.lse);
  } else {
    EXPECT_NEAR(output.lse[static_cast<std::size_t>(vector)], expected.lse,
                tolerance * std::max(1.0, std::abs(expected.lse)));
  }
}

class CodedAttention : public ::testing::TestWithParam<std::tuple<Isa, std::size_t /*codec*/>> {
 protected:
  [[nodiscard]] Isa isa() const { return std::get<0>(GetParam()); }
  [[nodiscard]] CodecParams codec() const { return codecs_under_test()[std::get<1>(GetParam())]; }
  /// A head_dim that every codec under test has.
  static constexpr int kAnyDim = 128;
};

INSTANTIATE_TEST_SUITE_P(Codecs, CodedAttention,
                         ::testing::Combine(::testing::ValuesIn(available_isas()),
                                            ::testing::Range(std::size_t{0}, codecs_under_test().size())),
                         [](const auto& test) {
                           return std::string(to_string(std::get<0>(test.param))) + "_" +
                                  testing::name_of(codecs_under_test()[std::get<1>(test.param)]);
                         });

TEST_P(CodedAttention, IsThatOfTheDecodedRows) {
  for (const auto& [dim_k, dim_v] :
       {std::pair{64, 64}, {80, 80}, {96, 96}, {128, 128}, {256, 256}, {72, 128}, {17, 160}, {1, 384}}) {
    if (!testing::allows(codec(), dim_k, dim_v)) continue;
    for (const int group : {1, 2, 4, 8}) {
      const auto shape = resolved({1, group, 1, dim_k, dim_v, 0.f, 0.f});
      for (const std::int64_t rows : {0, 1, 63, 65, 200}) {
        const CodedHead head(codec(), shape, rows);
        const Output output = attend(isa(), head, 0, rows, {rows});
        for (int h = 0; h < group; ++h)
          expect_near(output, h, head.expected(head.decoded_k, head.decoded_v, h, 0, rows));
      }
    }
  }
}

TEST_P(CodedAttention, AttendsAnyRangeOfRowsForAnyNumberOfVectors) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> ranges{{0, 300},  {7, 300},   {31, 33},  {64, 64},
                                                                  {65, 130}, {100, 101}, {127, 256}};
  for (int group = 1; group <= 20; ++group) {
    const CodedHead head(codec(), resolved({1, group, 1, kAnyDim, kAnyDim, 0.f, 0.f}), 300);
    const auto [first, end] = ranges[static_cast<std::size_t>(group) % ranges.size()];
    const Output output = attend(isa(), head, first, end, {300});
    for (int h = 0; h < group; ++h)
      expect_near(output, h, head.expected(head.decoded_k, head.decoded_v, h, first, end));
  }
}

TEST_P(CodedAttention, HidesCapsAndBiasesAsPassesOverRowsDo) {
  constexpr std::int64_t kRows = 200, kFirst = 1000;
  constexpr int kGroup = 2;
  const std::vector<std::int64_t> positions{990, 1001, 1130, 1131, 5000};
  const std::vector<float> slopes{0.03f, 0.01f};
  CodedHead::Options options;
  options.num_queries = static_cast<int>(positions.size());
  options.first_position = kFirst;
  const CodedHead head(codec(), resolved({1, kGroup, 1, kAnyDim, kAnyDim, 0.f, 0.f}), kRows, options);
  for (const std::int64_t sliding : {0, 50}) {
    const LogitRule logits{sliding == 0 ? 0.7f : 0.f, slopes.data(), sliding};
    const Output output = attend(isa(), head, 0, kRows, positions, logits);
    for (int v = 0; v < static_cast<int>(positions.size()) * kGroup; ++v) {
      const std::int64_t position = positions[static_cast<std::size_t>(v / kGroup)];
      std::vector<double> biases;
      for (std::int64_t p = kFirst; p < kFirst + kRows; ++p) {
        const bool visible = p <= position && (sliding == 0 || p > position - sliding);
        biases.push_back(visible ? static_cast<double>(slopes[static_cast<std::size_t>(v % kGroup)]) *
                                       static_cast<double>(p - position)
                                 : -INFINITY);
      }
      expect_near(
          output, v,
          head.expected(head.decoded_k, head.decoded_v, v, 0, kRows, biases, static_cast<double>(logits.softcap)));
    }
  }
}

TEST_P(CodedAttention, ExtremeMagnitudesStayFinite) {
  for (const auto& [key_scale, value_scale] :
       {std::pair{0.0, 0.0}, {1e-40, 1e-40}, {1e-30, 1e-30}, {3.0, 2e15}, {2e15, 2e15}}) {
    const CodedHead head(codec(), resolved({1, 2, 1, kAnyDim, kAnyDim, 0.f, 0.f}), 130,
                         {.key_scale = key_scale, .value_scale = value_scale});
    const Output output = attend(isa(), head, 0, 130, {130});
    for (const float x : output.out) ASSERT_TRUE(std::isfinite(x));
    for (int h = 0; h < 2; ++h) {
      const auto expected = head.expected(head.decoded_k, head.decoded_v, h, 0, 130);
      EXPECT_NEAR(output.lse[static_cast<std::size_t>(h)], expected.lse, 1e-5 * std::abs(expected.lse) + 1e-5);
      // Among logits of 1e16 an ulp decides between two keys; weights a scale of 1e-40 leaves are subnormal.
      if (key_scale < 1e15 && value_scale > 1e-35) expect_near(output, h, expected);
    }
  }
}

TEST_P(CodedAttention, ScoresAreProductsWithTheDecodedKeys) {
  constexpr int kVectors = 5;
  const CodedHead head(codec(), resolved({1, kVectors, 1, kAnyDim, kAnyDim, 0.f, 0.f}), 128);
  const BlockFormat& format = head.codec.format();
  const BlockCodecKernels& kernels = kernels_for(isa()).codecs[format.kind];
  AlignedVector<float> prepared = head.q;
  if (kernels.prepare != nullptr) {
    prepared.resize(static_cast<std::size_t>(kVectors * format.prepared_dim));
    kernels.prepare(format, head.q.data(), kVectors, prepared.data());
  }
  AlignedVector<float> decoded(kBlockRows * kAnyDim), scores(kVectors * kBlockRows, 7.f);
  for (const auto& [first, count] : {std::pair{0, 64}, {5, 40}, {63, 1}, {format.block_rows - 64, 64}}) {
    kernels.scores(format, {head.blocks.data(), first, count, 0}, prepared.data(), kVectors, decoded.data(),
                   scores.data());
    for (int v = 0; v < kVectors; ++v) {
      for (int r = 0; r < kBlockRows; ++r) {
        const float score = scores[static_cast<std::size_t>(v * kBlockRows + r)];
        if (r >= count) {
          ASSERT_EQ(score, -INFINITY);
          continue;
        }
        double dot = 0, size = 0;
        for (int d = 0; d < kAnyDim; ++d) {
          const double term = static_cast<double>(head.q[static_cast<std::size_t>(v * kAnyDim + d)]) *
                              head.decoded_k[static_cast<std::size_t>((first + r) * kAnyDim + d)];
          dot += term;
          size += std::abs(term);
        }
        ASSERT_NEAR(score, dot, 1e-6 * size) << first << " " << r;
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
