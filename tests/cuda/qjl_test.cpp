// Kernels of codec qjl: attention over the rows that blocks stand for, and blocks as the host makes them.
#include <limits>

#include "tests/cuda/codec_checks.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_formats.h"
#include "tests/support/codecs.h"

namespace tandem::testing {
namespace {

struct Case {
  cpu::CodecParams params;
  CodedCase window;
};

const std::vector<Case> kCases = {
    {qjl(256, 0), {.dim_k = 64, .dim_v = 64}},
    {qjl(256, 8), {.group = 4, .blocks = 5, .skipped = 3, .cut = 1}},
    {qjl(192, 8, 64), {.group = 8, .queries = 2, .skipped = 63, .cut = 40}},
    {qjl(320, 32, 320), {.dim_k = 80, .dim_v = 96, .group = 3, .blocks = 2}},
    {qjl(64, 1), {.dim_k = 256, .dim_v = 256, .group = 2, .blocks = 1}},
    {qjl(512, 0, 0, false), {.dim_k = 96, .dim_v = 32, .group = 6, .skipped = 17}},
    {qjl(576, 8, 320), {.dim_k = 17, .dim_v = 160, .group = 5, .queries = 3, .blocks = 2}},
    {qjl(64, 0), {.dim_k = 1, .dim_v = 224, .blocks = 2, .cut = 63}},
    {qjl(1024, 32, 1024), {.dim_k = 64, .dim_v = 128, .blocks = 1}},
    {qjl(128, 4), {.dim_k = 64, .dim_v = 64, .group = 2, .queries = 4, .softcap = 0.7f, .alibi = true}},
    {qjl(128, 3, 64), {.dim_k = 72, .dim_v = 192, .group = 2, .queries = 12, .alibi = true, .sliding_window = 50}},
};

class CudaQjl : public CudaTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaQjl, kThreadOrders);

TEST_P(CudaQjl, AttentionIsThatOfTheDecodedRows) {
  DeviceFormats formats;
  for (const Case& c : kCases) {
    SCOPED_TRACE(name_of(c.params) + " " + ::testing::PrintToString(c.window));
    const CodedWindow window(c.params, c.window);
    const cpu::BlockFormat& format = formats.of(window.head().codec);
    for (const std::int64_t tokens_per_item : {64, 128, 1024})
      window.expect_close(window.attend(format, tokens_per_item), 1e-6);
  }
}

TEST_P(CudaQjl, ExtremeMagnitudesStayFinite) {
  DeviceFormats formats;
  for (const auto& [key_scale, value_scale] :
       {std::pair{0.0, 0.0}, {1e-40, 1e-40}, {1e-30, 1e-30}, {3.0, 2e15}, {2e15, 2e15}}) {
    const CodedWindow window(qjl(128, 8), {.group = 2, .key_scale = key_scale, .value_scale = value_scale});
    SCOPED_TRACE(key_scale);
    const auto result = window.attend(formats.of(window.head().codec), 128);
    for (const float x : result) ASSERT_TRUE(std::isfinite(x));
    // Among logits of 1e16 an ulp decides between two keys; weights a scale of 1e-40 leaves are subnormal.
    if (key_scale < 1e15 && value_scale > 1e-35) window.expect_close(result, 1e-5);
  }
}

TEST_P(CudaQjl, CodesAndValuesAreThoseOfTheHost) {
  DeviceFormats formats;
  for (const Case& c : kCases) {
    SCOPED_TRACE(name_of(c.params) + " " + ::testing::PrintToString(c.window));
    CodedHead head(c.params, resolved({1, 1, 1, c.window.dim_k, c.window.dim_v, 0.f, 0.f}), 100);
    const cpu::BlockFormat& format = formats.of(head.codec);
    expect_codes_of_the_host(head, format);
    // Channels that are alike, and rows that are constant, zero, negative zero, subnormal, and as large as may be.
    const float values[] = {0.f,    -0.f,    std::numeric_limits<float>::denorm_min(), 1e-40f, 9.9e15f, -3.5f,
                            1e-37f, -9.9e15f};
    for (std::size_t i = 0; i < head.k.size(); ++i) {
      const auto channel = static_cast<int>(i) % format.padded_k;
      head.k[i] = channel < format.dim_k ? values[i / static_cast<std::size_t>(format.padded_k) % 8] : 0.f;
    }
    for (std::size_t i = 0; i < head.v.size(); ++i) head.v[i] = i % 96 < 32 ? values[i / 96 % 8] : head.v[i];
    head.encode();
    expect_codes_of_the_host(head, format);
  }
}

}  // namespace
}  // namespace tandem::testing
