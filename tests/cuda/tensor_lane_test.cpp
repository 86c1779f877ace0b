// Copies between host memory and tensors of every layout in device memory.
#include <cstring>
#include <thread>
#include <vector>

#include "gpu/cuda/cuda_device.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_array.h"

namespace tandem::gpu::cuda {
namespace {

using testing::DeviceArray;

struct Layout {
  DType dtype;
  std::int64_t tokens, heads, dim;
  bool heads_first;   ///< (heads, tokens, dim)
  std::int64_t pad;   ///< bytes after each row
  std::int64_t skew;  ///< bytes before the first
};

/// A tensor somewhere in an array of bytes.
template <typename Byte>
BasicTensorView<Byte> view_of(const Layout& layout, Byte* bytes) {
  const std::int64_t row = layout.dim * static_cast<std::int64_t>(bytes_of(layout.dtype)) + layout.pad;
  BasicTensorView<Byte> view{bytes + layout.skew, layout.dtype, layout.tokens, layout.heads, layout.dim};
  view.token_stride = layout.heads_first ? row : row * layout.heads;
  view.head_stride = layout.heads_first ? row * layout.tokens : row;
  view.on_device = true;
  return view;
}

std::vector<std::byte> numbered_bytes(std::int64_t count, std::uint32_t seed) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    seed = seed * 1664525u + 1013904223u;
    bytes[i] = static_cast<std::byte>(seed >> 24);
  }
  return bytes;
}

std::int64_t bytes_for(const Layout& layout) {
  return layout.skew +
         layout.tokens * layout.heads * (layout.dim * static_cast<std::int64_t>(bytes_of(layout.dtype)) + layout.pad);
}

std::vector<std::byte> dense(const Layout& layout, const std::vector<std::byte>& bytes) {
  const TensorView view = view_of(layout, bytes.data());
  const std::int64_t row_bytes = layout.dim * static_cast<std::int64_t>(bytes_of(layout.dtype));
  std::vector<std::byte> rows(static_cast<std::size_t>(layout.tokens * layout.heads * row_bytes));
  std::byte* target = rows.data();
  for (std::int64_t t = 0; t < layout.tokens; ++t)
    for (std::int64_t h = 0; h < layout.heads; ++h, target += row_bytes)
      std::memcpy(target, view.row(t, h), static_cast<std::size_t>(row_bytes));
  return rows;
}

const std::vector<Layout> kLayouts{
    {DType::f32, 1, 4, 16, false, 0, 0},        // a decode step
    {DType::bf16, 3, 2, 128, true, 0, 0},       // as transformers has it
    {DType::f16, 5, 3, 33, false, 0, 0},        // rows of 66 bytes
    {DType::f16, 5, 3, 34, true, 4, 0},         // words of 4
    {DType::bf16, 7, 1, 80, false, 32, 2},      // begins between words
    {DType::f32, 2, 5, 1, false, 12, 4},        //
    {DType::f32, 9000, 2, 64, false, 0, 0},     // more than a piece
    {DType::bf16, 20000, 2, 64, false, 16, 0},  // likewise, with a kernel
    {DType::f32, 0, 4, 16, false, 0, 0},
};

class TensorLanes : public testing::CudaTest {};
INSTANTIATE_TEST_SUITE_P(Orders, TensorLanes, testing::kThreadOrders);

TEST_P(TensorLanes, FetchEveryLayout) {
  CudaDevice device(0, {std::chrono::minutes(10)});
  std::vector<TensorFetch> fetches;
  std::vector<DeviceArray<std::byte>> arrays;
  std::vector<std::vector<std::byte>> expected, rows;
  for (const Layout& layout : kLayouts) {
    const std::vector<std::byte> bytes = numbered_bytes(bytes_for(layout), 7);
    arrays.emplace_back(bytes);
    expected.push_back(dense(layout, bytes));
    rows.emplace_back(expected.back().size());
    const std::byte* data = arrays.back().data();
    fetches.push_back({view_of(layout, data), rows.back().data()});
    if (layout.tokens > 0) device.check_tensor("k", data, {});
  }
  device.fetch(fetches.data(), static_cast<std::int64_t>(fetches.size()), {});
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i], expected[i]) << i;
}

TEST_P(TensorLanes, WaitForTheirCallersLongerThanForTheDevice) {
  CudaDevice device(0, {std::chrono::seconds(1)});
  const CudaStream caller;
  const DeviceArray<std::byte> array(numbered_bytes(64, 7));
  std::vector<std::byte> rows(64);
  const std::byte* const data = array.data();
  TensorView view = dense_view(data, DType::f32, 1, 1, 16);
  view.on_device = true;
  const TensorFetch fetch{view, rows.data()};
  const auto sleep = [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(2500)); };
  ASSERT_EQ(cudaLaunchHostFunc(caller.get(), sleep, nullptr), cudaSuccess);
  device.fetch(&fetch, 1, {caller.get()});
  EXPECT_EQ(rows, array.values());
}

TEST_P(TensorLanes, PutEveryLayoutAndNothingBeside) {
  CudaDevice device(0, {std::chrono::minutes(10)});
  const CudaStream caller;
  std::vector<TensorPut> puts;
  std::vector<DeviceArray<std::byte>> arrays;
  std::vector<std::vector<std::byte>> before, rows;
  for (const Layout& layout : kLayouts) {
    before.push_back(numbered_bytes(bytes_for(layout), 3));
    arrays.emplace_back(before.back());
    rows.push_back(dense(layout, numbered_bytes(bytes_for(layout), 4)));
    puts.push_back({rows.back().data(), view_of(layout, arrays.back().data())});
  }
  device.put(puts.data(), static_cast<std::int64_t>(puts.size()), {caller.get()});
  const auto sent = rows;
  for (auto& row : rows) std::fill(row.begin(), row.end(), std::byte{0});  // it is the caller's again
  ASSERT_EQ(cudaStreamSynchronize(caller.get()), cudaSuccess);
  for (std::size_t i = 0; i < kLayouts.size(); ++i) {
    const Layout& layout = kLayouts[i];
    std::vector<std::byte> expected = before[i];
    const MutableTensorView view = view_of(layout, expected.data());
    const std::size_t row_bytes = static_cast<std::size_t>(layout.dim) * bytes_of(layout.dtype);
    const std::byte* source = sent[i].data();
    for (std::int64_t t = 0; t < layout.tokens; ++t)
      for (std::int64_t h = 0; h < layout.heads; ++h, source += row_bytes)
        std::memcpy(view.row(t, h), source, row_bytes);
    EXPECT_EQ(arrays[i].values(), expected) << i;
  }
}

}  // namespace
}  // namespace tandem::gpu::cuda
