// Kernels of codec nuq: attention over the rows that blocks stand for, and blocks as the host makes them.
#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"
#include "tests/cuda/codec_checks.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_formats.h"
#include "tests/support/nuq_heads.h"

namespace tandem::testing {
namespace {

class CudaNuq : public CudaTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaNuq, kThreadOrders);

constexpr std::int64_t kPositions[] = {5, 1000003, (std::int64_t{1} << 31) - 4096};

CodedCase with_head(CodedCase c, const NuqHead& head, std::int64_t origin) {
  c.dim_k = head.dim_k;
  c.dim_v = head.dim_v;
  c.rope = head.rope;
  c.origin = origin;
  return c;
}

TEST_P(CudaNuq, AttentionIsThatOfTheDecodedRows) {
  DeviceFormats formats;
  const CodedCase kCases[] = {
      {.blocks = 2}, {.group = 4, .blocks = 3, .skipped = 3, .cut = 1}, {.group = 7, .cut = 60}};
  for (const NuqHead& head : kNuqHeads) {
    for (const int bits : {2, 3, 4}) {
      const CodedCase c = with_head(kCases[bits - 2], head, kPositions[bits - 2]);
      SCOPED_TRACE(concat(bits, " bits ", ::testing::PrintToString(c)));
      const CodedWindow window(nuq_params(head, bits), c);
      const cpu::BlockFormat& format = formats.of(window.head().codec);
      for (const std::int64_t tokens_per_item : {64, 1024})
        window.expect_close(window.attend(format, tokens_per_item), 2e-6);
    }
  }
}

TEST_P(CudaNuq, AttentionHasAnyShareOfOutliersAnyMaskAndAnyNumberOfVectors) {
  DeviceFormats formats;
  const CodedCase kCases[] = {
      {.group = 8, .queries = 2, .skipped = 63, .cut = 40},
      {.group = 2, .queries = 4, .softcap = 0.7f, .alibi = true},
      {.group = 2, .queries = 12, .blocks = 2, .alibi = true, .sliding_window = 50},
  };
  const NuqHead heads[] = {
      {64, 128, {1e4, 0, false}}, {128, 64, {1e4, 64, true}}, {96, 32, {}}, {256, 16, {1e6, 0, false}}};
  for (const NuqHead& head : heads) {
    for (const double outliers : {0.0, 0.1}) {
      for (const CodedCase& shared : kCases) {
        const CodedCase c = with_head(shared, head, 77);
        SCOPED_TRACE(concat(outliers, " outliers ", ::testing::PrintToString(c)));
        const CodedWindow window(nuq_params(head, 4, outliers), c);
        window.expect_close(window.attend(formats.of(window.head().codec), 128), 2e-6);
      }
    }
  }
}

TEST_P(CudaNuq, ExtremeMagnitudesStayFinite) {
  DeviceFormats formats;
  const NuqHead head{64, 64, {1e6, 0, false}};
  for (const auto& [key_scale, value_scale] : {std::pair{0.0, 0.0}, {1e-40, 1e-40}, {3.0, 1e15}, {1e15, 1e15}}) {
    CodedCase c = with_head({.group = 2, .blocks = 2}, head, 3);
    c.key_scale = key_scale;
    c.value_scale = value_scale;
    SCOPED_TRACE(key_scale);
    const CodedWindow window(nuq_params(head, 4), c);
    const auto result = window.attend(formats.of(window.head().codec), 128);
    for (const float x : result) ASSERT_TRUE(std::isfinite(x));
    if (key_scale < 1e15 && value_scale > 1e-35) window.expect_close(result, 1e-5);
  }
}

/// Angles of the device are exact to 1e-9, those of the host too, and both to 1e-11 below position 10^7: elements
/// differ where that changes the last bit, codes where an element then crosses the middle between two levels. Blocks
/// are nearly always the same, and what they stand for is always as near.
TEST_P(CudaNuq, CodesAndValuesAreThoseOfTheHost) {
  DeviceFormats formats;
  for (const NuqHead& head_case : kNuqHeads) {
    for (const int bits : {2, 3, 4}) {
      const std::int64_t position = kPositions[bits - 2];
      const double outliers = bits == 3 ? 0.1 : 0.01;
      SCOPED_TRACE(concat(bits, " bits, dims ", head_case.dim_k, " ", head_case.dim_v));
      const CodedHead head(nuq_params(head_case, bits, outliers), attention_shape(head_case), 128,
                           options(1.2, 1.0, head_case, position));
      const cpu::BlockFormat& format = formats.of(head.codec);
      const std::vector<std::byte> blocks = encoded(head, format);
      std::size_t different = 0;
      for (std::size_t i = 0; i < blocks.size(); ++i) different += blocks[i] != head.blocks[i] ? 1 : 0;
      EXPECT_LE(different, position < 10'000'000 ? 0 : blocks.size() / 1000);
      const std::vector<float> rows = decoded(head, format);
      for (std::size_t i = 0; i < head.decoded_k.size(); ++i)
        ASSERT_NEAR(rows[i], head.decoded_k[i], 1e-6f * (1 + std::abs(head.decoded_k[i])));
      const auto values = rows.begin() + static_cast<std::ptrdiff_t>(head.decoded_k.size());
      EXPECT_TRUE(std::equal(head.decoded_v.begin(), head.decoded_v.end(), values));
    }
  }
}

/// Elements that are alike, and tokens with more outliers than there is room for.
TEST_P(CudaNuq, TiesAreBrokenAsOnTheHost) {
  DeviceFormats formats;
  const NuqHead head_case{64, 64, {}};
  CodedHead head(nuq_params(head_case, 4), attention_shape(head_case), 64, options(4.0, 1.0, head_case));
  for (std::size_t i = 0; i < head.v.size(); ++i) head.v[i] = std::round(head.v[i]);
  for (std::size_t i = 0; i < head.v.size() / 8; ++i) head.v[i] = i % 2 == 0 ? -0.f : 0.f;
  for (std::size_t i = 0; i < head.k.size() / 2; ++i) head.k[i] = std::copysign(9.f, head.k[i]);
  head.encode();
  expect_codes_of_the_host(head, formats.of(head.codec));
}

}  // namespace
}  // namespace tandem::testing
