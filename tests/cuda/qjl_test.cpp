// Kernels of codec qjl: attention over the rows that blocks stand for, and blocks as the host makes them.
#include "gpu/cuda/launch/qjl_launch.h"
#include "runtime/base/error.h"
#include "tests/cuda/coded_window.h"
#include "tests/cuda/cuda_test.h"
#include "tests/support/codecs.h"

namespace tandem::testing {
namespace {

using namespace gpu::cuda;

CodedLaunchers launchers_of(const cpu::CodecParams& params) {
  return {attend_qjl, encode_qjl, decode_qjl, prepare_queries_qjl, params.sketch_bits};
}

struct Case {
  int dim_k, dim_v, group;
  cpu::CodecParams params;
};

std::vector<Case> cases() {
  return {{64, 64, 1, qjl(256, 0)},       {128, 128, 4, qjl(256, 8)}, {128, 128, 8, qjl(192, 8, 64)},
          {80, 96, 3, qjl(320, 32, 320)}, {256, 256, 2, qjl(64, 1)},  {96, 32, 4, qjl(512, 0, 0, false)},
          {17, 160, 5, qjl(576, 8, 320)}, {1, 224, 1, qjl(64, 0)},    {64, 128, 1, qjl(1024, 32, 1024)},
          {72, 192, 4, qjl(128, 3, 128)}};
}

CodedHead head_of(const Case& c, std::int64_t rows, int queries = 1, std::int64_t first_position = 0) {
  CodedHead::Options options;
  options.num_queries = queries;
  options.first_position = first_position;
  return CodedHead(c.params, resolved({1, c.group, 1, c.dim_k, c.dim_v, 0.f, 0.f}), rows, options);
}

std::string name_of(const Case& c) {
  return concat("dims ", c.dim_k, " ", c.dim_v, " group ", c.group, " bits ", c.params.sketch_bits, " outliers ",
                c.params.outliers, " of ", c.params.outlier_bits);
}

class QjlKernels : public CudaTest {};
INSTANTIATE_TEST_SUITE_P(Orders, QjlKernels, kThreadOrders);

TEST_P(QjlKernels, AttendAsOverTheDecodedRows) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const CodedHead head = head_of(c, 300);
    const CodedLaunchers launchers = launchers_of(c.params);
    const CodedWindow window(head, launchers);
    for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 64}, {70, 257}, {63, 65}, {128, 129}}) {
      CodedView view{begin, end};
      view.positions = {299};
      window.expect_close(view, window.attend(view, 128), 2e-6);
    }
  }
}

TEST_P(QjlKernels, AttendInARingThatWraps) {
  const Case c{64, 64, 4, qjl(128, 4)};
  const CodedHead head = head_of(c, 640, 1, 100000);
  const CodedLaunchers launchers = launchers_of(c.params);
  const CodedWindow window(head, launchers);
  CodedView view{400, 635};
  view.ring_blocks = 4;
  view.positions = {639};
  for (const std::int64_t tokens : {64, 128, 1024}) window.expect_close(view, window.attend(view, tokens), 2e-6);
}

TEST_P(QjlKernels, HideCapAndBias) {
  const Case c{64, 64, 5, qjl(128, 4)};
  const CodedHead head = head_of(c, 200, 5, 1000);
  const CodedLaunchers launchers = launchers_of(c.params);
  const CodedWindow window(head, launchers);
  for (const std::int64_t sliding : {0, 50}) {
    CodedView view{0, 200};
    view.softcap = sliding == 0 ? 0.7f : 0.f;
    view.alibi = true;
    view.sliding_window = sliding;
    view.positions = {-10, 1, 130, 131, 4000};  // the first sees nothing, and nor does the last where it slides
    window.expect_close(view, window.attend(view, 128), 2e-6);
  }
}

TEST_P(QjlKernels, EncodeToTheBytesOfTheHost) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    CodedHead head = head_of(c, 128);
    for (int i = 0; i < c.dim_k; ++i) head.k[static_cast<std::size_t>(i)] = 1.f;  // channels that tie
    for (int i = 0; i < c.dim_v; ++i) head.v[static_cast<std::size_t>(i)] = i % 2 == 0 ? -0.f : 0.f;
    head.v[static_cast<std::size_t>(head.codec.format().padded_v)] = 3e15f;
    head.encode();
    const CodedLaunchers launchers = launchers_of(c.params);
    const CodedWindow window(head, launchers);
    const std::vector<std::byte> blocks = window.encoded();
    EXPECT_TRUE(std::equal(blocks.begin(), blocks.end(), head.blocks.begin()));
  }
}

TEST_P(QjlKernels, DecodeToTheBitsOfTheHost) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    const CodedHead head = head_of(c, 64);
    const CodedLaunchers launchers = launchers_of(c.params);
    const CodedWindow window(head, launchers);
    const std::vector<std::byte> blocks(head.blocks.begin(), head.blocks.end());
    const auto& f = head.codec.format();
    for (const auto& [first, count] : {std::pair{0, 64}, {31, 2}, {63, 1}}) {
      const auto rows = window.decoded(blocks, first, count);
      EXPECT_TRUE(std::equal(rows.k.begin(), rows.k.end(), head.decoded_k.begin() + first * f.padded_k));
      EXPECT_TRUE(std::equal(rows.v.begin(), rows.v.end(), head.decoded_v.begin() + first * f.padded_v));
    }
  }
}

TEST(QjlKernelLimits, AreNamed) {
  const CodedHead head(qjl(64, 0), resolved({1, 1, 1, 64, 288, 0.f, 0.f}), 64);
  EXPECT_THROW(attend_qjl(head.codec.format(), 1, nullptr, nullptr, 1, {}, nullptr), Error);
}

}  // namespace
}  // namespace tandem::testing
