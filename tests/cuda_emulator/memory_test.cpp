#include <cmath>
#include <cstdint>
#include <vector>

#include "testing.h"

namespace emulator {
namespace {

using testing::HasSubstr;
using Memory = EmulatorTest;
using Array = TestArray<float>;

TEST_F(Memory, IsAlignedAndJunk) {
  const Array device(Array::device, 3);
  const Array pinned(Array::pinned, 3);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(device.data()) % 256, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pinned.data()) % 256, 0u);
  float copy[3] = {};
  EXPECT_EQ(cudaMemcpy(copy, device.data(), 12, cudaMemcpyDeviceToHost), cudaSuccess);
  for (float x : copy) EXPECT_TRUE(std::isnan(x));
  void* mapped = nullptr;
  EXPECT_EQ(cudaHostGetDevicePointer(&mapped, &pinned[1], 0), cudaSuccess);
  EXPECT_EQ(mapped, &pinned[1]);
}

TEST_F(Memory, CopiesInAllDirections) {
  const TestStream stream;
  const Array device(Array::device, 4);
  const Array pinned(Array::pinned, 4);
  const std::vector<float> in{1, 2, 3, 4};
  std::vector<float> out(4);
  EXPECT_EQ(cudaMemcpyAsync(device.data(), in.data(), 8, cudaMemcpyHostToDevice, stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(&device[2], &device[0], 8, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(pinned.data(), device.data(), 16, cudaMemcpyDefault, stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(out.data(), pinned.data(), 16, cudaMemcpyHostToHost, stream), cudaSuccess);
  EXPECT_EQ(out, (std::vector<float>{1, 2, 1, 2}));
  EXPECT_EQ(cudaMemsetAsync(&device[1], 0, 4, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(out.data(), device.data(), 16, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(out, (std::vector<float>{1, 0, 1, 2}));
  EXPECT_EQ(cudaMemcpyAsync(device.data(), nullptr, 0, cudaMemcpyHostToDevice, stream), cudaSuccess);
}

TEST_F(Memory, CopiesAreChecked) {
  const TestStream stream;
  const Array device(Array::device, 4);
  const Array pinned(Array::pinned, 4);
  std::vector<float> host(8);
  const auto copy = [&](void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    EXPECT_EQ(cudaMemcpyAsync(to, from, bytes, kind, stream), cudaErrorInvalidValue);
    return take_fault();
  };
  EXPECT_THAT(copy(device.data(), host.data(), 17, cudaMemcpyHostToDevice), HasSubstr("the destination does not lie"));
  EXPECT_THAT(copy(host.data(), &device[2], 9, cudaMemcpyDeviceToHost), HasSubstr("the source does not lie"));
  EXPECT_THAT(copy(host.data(), host.data(), 4, cudaMemcpyDeviceToHost), HasSubstr("the source does not lie"));
  EXPECT_THAT(copy(device.data(), device.data(), 4, cudaMemcpyHostToDevice),
              HasSubstr("the source is not host memory"));
  EXPECT_THAT(copy(device.data(), &pinned[3], 8, cudaMemcpyHostToDevice), HasSubstr("runs over its allocation"));
  EXPECT_EQ(cudaMemsetAsync(host.data(), 0, 4, stream), cudaErrorInvalidValue);
  EXPECT_THAT(take_fault(), HasSubstr("neither in device memory nor in pinned"));
}

TEST_F(Memory, IsFreedOnceAndWithItsOwnFunction) {
  void* device = nullptr;
  void* pinned = nullptr;
  EXPECT_EQ(cudaMalloc(&device, 16), cudaSuccess);
  EXPECT_EQ(cudaHostAlloc(&pinned, 16, cudaHostAllocMapped), cudaSuccess);
  EXPECT_EQ(check_leaks(), "alive: 1 device allocations, 1 pinned host allocations");
  EXPECT_EQ(cudaFree(pinned), cudaErrorInvalidValue);
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(cudaFreeHost(device), cudaErrorInvalidValue);
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(cudaFree(static_cast<char*>(device) + 4), cudaErrorInvalidValue);
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  EXPECT_EQ(cudaFree(device), cudaErrorInvalidValue);
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(nullptr), cudaSuccess);
}

TEST_F(Memory, RegisteredMemoryIsPinned) {
  std::vector<float> memory(16);
  EXPECT_EQ(cudaHostRegister(memory.data(), 64, cudaHostRegisterMapped), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(&memory[8], 4, cudaHostRegisterMapped), cudaErrorHostMemoryAlreadyRegistered);
  void* mapped = nullptr;
  EXPECT_EQ(cudaHostGetDevicePointer(&mapped, &memory[3], 0), cudaSuccess);
  EXPECT_EQ(mapped, &memory[3]);
  EXPECT_EQ(live().host_allocations, 1);
  EXPECT_EQ(cudaHostUnregister(memory.data()), cudaSuccess);
  EXPECT_EQ(cudaHostGetDevicePointer(&mapped, &memory[3], 0), cudaErrorInvalidValue);
  EXPECT_NE(take_fault(), "");
}

TEST_F(Memory, EndsWhereTheDeviceDoes) {
  reset({.device_bytes = 1000});
  void* first = nullptr;
  void* second = nullptr;
  EXPECT_EQ(cudaMalloc(&first, 600), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 401), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, 400u);
  EXPECT_EQ(total_bytes, 1000u);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 401), cudaSuccess) << "the other device has memory of its own";
  EXPECT_EQ(cudaFree(second), cudaSuccess);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
}

}  // namespace
}  // namespace emulator
