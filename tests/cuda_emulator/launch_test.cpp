#include "testing.h"

namespace emulator {
namespace {

using Launches = EmulatorTest;

__global__ void set(int* out, int value) { *out = value; }
__global__ void use_dynamic(unsigned bytes) { dynamic_shared()[bytes - 1] = 1; }
__global__ void use_other_dynamic(unsigned bytes) { dynamic_shared()[bytes - 1] = 1; }

struct Pod {
  int values[3];
};
__global__ void set_from_pod(int* out, Pod pod, const int* add) { *out = pod.values[2] + *add; }

TEST_F(Launches, ConvertAndCopyArguments) {
  reset({.progress = Progress::late, .late_after_ms = 1000000});
  const TestStream stream;
  const TestArray<int> data(TestArray<int>::pinned, 2);
  Pod pod{{1, 2, 3}};
  data[1] = 4;
  EXPECT_EQ(launch_in(stream, 1, 1, 0, set_from_pod, data.data(), pod, &data[1]), cudaSuccess);
  pod.values[2] = 100;  // the launch has its own copy
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(data[0], 7);
  const short narrow = 5;
  EXPECT_EQ(launch_in(stream, 1, 1, 0, set, data.data(), narrow), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(data[0], 5);
}

TEST_F(Launches, RefuseGridsAndBlocksBeyondCudasLimits) {
  const TestStream stream;
  const TestArray<int> out(TestArray<int>::pinned, 1);
  const auto launch = [&](dim3 grid, dim3 block) { return launch_in(stream, grid, block, 0, set, out.data(), 1); };
  for (const dim3 grid : {dim3(0), dim3(1, 0), dim3(1, 1, 0), dim3(0x80000000u), dim3(1, 65536), dim3(1, 1, 65536)}) {
    EXPECT_EQ(launch(grid, 1), cudaErrorInvalidConfiguration) << grid.x << " " << grid.y << " " << grid.z;
  }
  for (const dim3 block : {dim3(0), dim3(1, 0), dim3(1, 1, 0), dim3(1025), dim3(33, 32), dim3(1, 1, 65)}) {
    EXPECT_EQ(launch(1, block), cudaErrorInvalidConfiguration) << block.x << " " << block.y << " " << block.z;
  }
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(launch(dim3(1, 70), dim3(16, 1, 64)), cudaSuccess);
}

TEST_F(Launches, DynamicSharedMemoryHasToBeAllowed) {
  const TestStream stream;
  const auto launch = [&](auto* kernel, unsigned bytes) { return launch_in(stream, 1, 1, bytes, kernel, bytes); };
  EXPECT_EQ(launch(use_dynamic, 48 << 10), cudaSuccess);
  EXPECT_EQ(launch(use_dynamic, (48 << 10) + 1), cudaErrorInvalidValue);
  constexpr auto kAttribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  EXPECT_EQ(cudaFuncSetAttribute(use_dynamic, kAttribute, (227 << 10) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(use_dynamic, kAttribute, 227 << 10), cudaSuccess);
  EXPECT_EQ(launch(use_dynamic, 227 << 10), cudaSuccess);
  EXPECT_EQ(launch(use_other_dynamic, (48 << 10) + 1), cudaErrorInvalidValue) << "allowed for the other kernel only";
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
}

TEST_F(Launches, GoToStreamsOfTheCurrentDevice) {
  const TestStream stream;
  const TestArray<int> out(TestArray<int>::pinned, 1);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(launch_in(stream, 1, 1, 0, set, out.data(), 1), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(take_fault(), testing::HasSubstr("another device"));
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(launch_in(stream, 1, 1, 0, set, out.data(), 1), cudaSuccess);
}

TEST_F(Launches, DeviceCodeOnTheHostIsAFault) { EXPECT_THROW(__syncwarp(), Fault); }

}  // namespace
}  // namespace emulator
