// What the attention of windows is cut into: neither long windows nor long chunks take memory for many partials.
#include "gpu/cuda/attention_plan.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/row_layout.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_array.h"

namespace tandem::testing {
namespace {

using namespace gpu;
using namespace gpu::cuda;

std::int64_t parts_of(std::int64_t least, std::int64_t tokens, std::int64_t vectors) {
  const std::int64_t length = tokens_per_item(least, tokens, vectors);
  return (tokens + length - 1) / length;
}

TEST(TokensPerItem, SplitsShortWindowsAsFinelyAsAllowed) {
  for (const std::int64_t vectors : {1, 4, 8, 16}) {
    const std::int64_t finest = 512 / vectors * kRowsPerItem;
    EXPECT_EQ(tokens_per_item(kRowsPerItem, finest, vectors), kRowsPerItem) << vectors;
    EXPECT_EQ(tokens_per_item(kRowsPerItem, finest + 1, vectors), 2 * kRowsPerItem) << vectors;
  }
}

TEST(TokensPerItem, BoundsPartials) {
  for (const std::int64_t least : {kRowsPerItem, kCodedPerItem}) {
    for (const std::int64_t vectors : {1, 3, 8, 500, 512, 513, 4'096, 1 << 20}) {
      for (const std::int64_t tokens : {std::int64_t{0}, std::int64_t{1}, least, least + 1, std::int64_t{4'100},
                                        std::int64_t{131'072}, std::int64_t{1} << 31}) {
        const std::int64_t length = tokens_per_item(least, tokens, vectors);
        EXPECT_EQ(length % least, 0);
        EXPECT_LE(parts_of(least, tokens, vectors) * vectors, std::max<std::int64_t>(512, vectors));
        // Half of it would have been too many: as many items as are allowed keep a GPU busy.
        if (length > least) {
          EXPECT_GT((tokens + length / 2 - 1) / (length / 2) * vectors, 512) << tokens << " " << vectors;
        }
      }
    }
  }
}

class AttentionPlans : public CudaTest {
 protected:
  /// Partials of each query vector of a window of rows.
  static double partials_per_vector(std::int64_t rows, int queries, int group) {
    const cpu::RowLayout layout = cpu::RowLayout::of({1, group, 1, 128, 128, 1.f, 0.f}, DType::bf16);
    const CudaStream stream;
    std::vector<std::byte*> pages(static_cast<std::size_t>((rows + 63) / 64));  // which planning does not look into
    WindowAttention task{};
    task.window.rows = {pages.data(), 64, layout.row_bytes};
    task.window.layout = layout;
    task.window.ring = rows;
    task.window.end = rows;
    std::vector<std::int64_t> positions;
    for (int i = 0; i < queries; ++i) positions.push_back(rows - queries + i);
    const std::int64_t vectors = std::int64_t{queries} * group;
    const std::vector<float> q(static_cast<std::size_t>(vectors * layout.padded_k));
    task.queries = {q.data(), positions.data(), queries, group};
    DeviceCodecs codecs(stream.get());
    Upload upload;
    Download download;
    AttentionPlan plan;
    plan.build(&task, 1, codecs, upload, download);
    return static_cast<double>(plan.scratch_bytes()) / static_cast<double>(vectors * (layout.dim_v + 1) * 4);
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, AttentionPlans, kThreadOrders);

TEST_P(AttentionPlans, ADecodeStepIsSplitAndALongChunkIsNot) {
  EXPECT_EQ(partials_per_vector(4'096, 1, 4), 32);
  EXPECT_EQ(partials_per_vector(131'072, 1, 8), 64);
  EXPECT_EQ(partials_per_vector(4'096, 1'024, 4), 1);
}

}  // namespace
}  // namespace tandem::testing
