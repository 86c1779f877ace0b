// Kernels of coded blocks: the bytes and values of the host's codecs, and attention over them.
#include "tests/support/codecs.h"

#include <cmath>
#include <limits>

#include "runtime/base/error.h"
#include "tests/cuda/codec_checks.h"
#include "tests/cuda/cuda_test.h"

namespace tandem::testing {
namespace {

using cpu::CodecKind;

std::vector<cpu::CodecParams> codecs() {
  return {codec_of(CodecKind::int8),
          codec_of(CodecKind::fp8),
          kivi(4, 32),
          kivi(2, 32),
          kivi(4, 64),
          kivi(2, 64),
          kivi(4, 128),
          kivi(2, 128)};
}

class CudaCodecs : public CudaTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaCodecs, kThreadOrders);

const std::vector<CodedCase> kCases = {
    {.dim_k = 64, .dim_v = 64},
    {.group = 4, .blocks = 5, .skipped = 3, .cut = 1},
    {.group = 8, .queries = 2, .skipped = 63, .cut = 40},
    {.dim_k = 80, .dim_v = 64, .group = 5, .blocks = 2},
    {.dim_k = 96, .dim_v = 96, .group = 4, .blocks = 1},
    {.dim_k = 96, .dim_v = 256, .group = 6, .queries = 3, .blocks = 2, .skipped = 17},
    {.dim_k = 256, .dim_v = 128, .blocks = 2},
    {.dim_k = 256, .dim_v = 256, .group = 2, .blocks = 2, .skipped = 1},
    {.dim_k = 17, .dim_v = 32, .group = 3, .skipped = 64},
    {.dim_k = 80, .dim_v = 80, .group = 7, .blocks = 2},
    {.dim_k = 64, .dim_v = 64, .group = 2, .queries = 4, .softcap = 0.7f, .alibi = true},
    {.dim_k = 64, .dim_v = 64, .group = 2, .queries = 12, .blocks = 2, .alibi = true, .sliding_window = 50},
};

/// The thread orders, on a device without bf16 tensor cores.
class CudaCodecsOfOlderDevices : public CudaCodecs {
 protected:
  void SetUp() override { start_older(); }
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaCodecsOfOlderDevices, kThreadOrders);

void expect_attention_of_the_decoded_rows() {
  for (const cpu::CodecParams& codec : codecs()) {
    for (const CodedCase& c : kCases) {
      if (!allows(codec, c.dim_k, c.dim_v)) continue;
      SCOPED_TRACE(name_of(codec) + " " + ::testing::PrintToString(c));
      const CodedWindow window(codec, c);
      for (const std::int64_t tokens_per_item : {64, 128, 1024})
        window.expect_close(window.attend(window.format(), tokens_per_item), 4e-6);
    }
  }
}

void expect_finite_attention() {
  for (const cpu::CodecParams& codec : codecs()) {
    for (const auto& [key_scale, value_scale] :
         {std::pair{0.0, 0.0}, {1e-40, 1e-40}, {1e-30, 1e-30}, {3.0, 2e15}, {2e15, 2e15}}) {
      const CodedWindow window(codec, {.group = 2, .key_scale = key_scale, .value_scale = value_scale});
      SCOPED_TRACE(name_of(codec) + " " + ::testing::PrintToString(key_scale));
      const std::vector<float> result = window.attend(window.format(), 128);
      for (const float x : result) ASSERT_TRUE(std::isfinite(x));
      // Among logits of 1e16 an ulp decides between two keys; weights a scale of 1e-40 leaves are subnormal.
      if (key_scale < 1e15 && value_scale > 1e-35) window.expect_close(result, 1e-5);
    }
  }
}

TEST_P(CudaCodecs, AttentionIsThatOfTheDecodedRows) { expect_attention_of_the_decoded_rows(); }
TEST_P(CudaCodecsOfOlderDevices, AttentionIsThatOfTheDecodedRows) { expect_attention_of_the_decoded_rows(); }

TEST_P(CudaCodecs, ExtremeMagnitudesStayFinite) { expect_finite_attention(); }
TEST_P(CudaCodecsOfOlderDevices, ExtremeMagnitudesStayFinite) { expect_finite_attention(); }

TEST_P(CudaCodecs, CodesAndValuesAreThoseOfTheHost) {
  for (const cpu::CodecParams& codec : codecs()) {
    for (const auto& [dim_k, dim_v] : {std::pair{64, 64}, {80, 96}, {128, 128}, {256, 160}, {17, 256}}) {
      if (!allows(codec, dim_k, dim_v)) continue;
      SCOPED_TRACE(name_of(codec));
      CodedHead head(codec, resolved({1, 1, 1, dim_k, dim_v, 0.f, 0.f}), 150);
      expect_codes_of_the_host(head);
      // Rows and channels that are constant, zero, negative zero, subnormal, and as large as may be.
      const float values[] = {0.f,    -0.f,    std::numeric_limits<float>::denorm_min(), 1e-40f, 9.9e15f, -3.5f,
                              1e-37f, -9.9e15f};
      for (std::size_t i = 0; i < head.k.size(); ++i) head.k[i] *= values[i / 16 % 8];
      for (std::size_t i = 0; i < head.v.size(); ++i) head.v[i] = values[i / 32 % 8];
      head.encode();
      expect_codes_of_the_host(head);
    }
  }
}

TEST_P(CudaCodecs, RefusesWhatTheyHaveNoKernelsFor) {
  const gpu::cuda::CudaStream stream;
  for (const cpu::CodecParams& codec : {codec_of(CodecKind::none), codec_of(CodecKind::int8)}) {
    const cpu::BlockFormat format = cpu::BlockCodec(codec, resolved({1, 1, 1, 257, 64, 0.f, 0.f}), {}, 0, 0).format();
    try {
      gpu::cuda::launch_encode(format, nullptr, 1, stream.get());
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      EXPECT_NE(std::string(error.what()).find(codec.kind == CodecKind::none ? "none" : "257"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tandem::testing
