#include "runtime/base/view.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

namespace tandem {
namespace {

class DenseView : public testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(View, DenseView, testing::Values(DType::f32, DType::f16, DType::bf16));

TEST_P(DenseView, IsRowMajor) {
  std::vector<std::byte> data(2 * 3 * 5 * 4);
  const auto view = dense_view(data.data(), GetParam(), 2, 3, 5);
  const auto size = static_cast<std::int64_t>(bytes_of(GetParam()));
  for (std::int64_t t = 0; t < 2; ++t) {
    for (std::int64_t h = 0; h < 3; ++h) EXPECT_EQ(view.row(t, h) - view.data, (t * 3 + h) * 5 * size);
  }
  EXPECT_EQ(view.dtype, GetParam());
}

TEST(View, ConstnessFollowsTheElement) {
  const float fixed[4] = {};
  float writable[4] = {};
  static_assert(std::is_same_v<decltype(dense_view(fixed, DType::f32, 1, 1, 4)), TensorView>);
  static_assert(std::is_same_v<decltype(dense_view(writable, DType::f32, 1, 1, 4)), MutableTensorView>);
  std::memcpy(dense_view(writable, DType::f32, 2, 1, 2).row(1, 0), &fixed, 8);
}

TEST(View, StridesMayTransposePadAndRunBackwards) {
  std::byte data[256] = {};
  const TensorView transposed{data, DType::f32, 4, 3, 2, 8, 32};  // (heads, tokens, dim)
  EXPECT_EQ(transposed.row(3, 2) - data, 3 * 8 + 2 * 32);
  const TensorView backwards{data + 96, DType::f32, 4, 1, 2, -32, 8};
  EXPECT_EQ(backwards.row(3, 0), data);
}

TEST(View, SliceKeepsHeadsAndStrides) {
  std::byte data[256] = {};
  const TensorView view{data, DType::f16, 6, 2, 4, 40, 16};
  const TensorView part = view.slice(2, 3);
  EXPECT_EQ(part.tokens, 3);
  EXPECT_EQ(part.heads, 2);
  EXPECT_EQ(part.dim, 4);
  for (std::int64_t t = 0; t < 3; ++t) EXPECT_EQ(part.row(t, 1), view.row(t + 2, 1));
  EXPECT_EQ(view.slice(6, 0).tokens, 0);
}

TEST(View, OffsetsAre64Bit) {
  const auto view = dense_view(static_cast<const std::byte*>(nullptr), DType::f32, std::int64_t{1} << 31, 8, 128);
  EXPECT_EQ(view.token_stride * (view.tokens - 1), ((std::int64_t{1} << 31) - 1) * 4096);
}

}  // namespace
}  // namespace tandem
