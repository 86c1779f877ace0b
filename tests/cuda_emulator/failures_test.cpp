#include <vector>

#include "testing.h"

namespace emulator {
namespace {

using Failures = EmulatorTest;

__global__ void increment(int* x) { ++*x; }

TEST_F(Failures, PlannedOnesComeWhenPlanned) {
  fail_next("cudaMalloc", cudaErrorMemoryAllocation, 1);
  fail_next("cudaHostAlloc", cudaErrorMemoryAllocation);
  void* first = nullptr;
  void* second = nullptr;
  EXPECT_EQ(cudaMalloc(&first, 4), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 4), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&second, 4), cudaSuccess);
  void* pinned = nullptr;
  EXPECT_EQ(cudaHostAlloc(&pinned, 4, cudaHostAllocMapped), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
  EXPECT_EQ(cudaFree(second), cudaSuccess);
}

TEST_F(Failures, OfALaunchLeaveTheDeviceAlone) {
  const TestStream stream;
  const TestArray<int> x(TestArray<int>::pinned, 1);
  x[0] = 0;
  fail_next("cudaLaunchKernelEx", cudaErrorLaunchOutOfResources);
  EXPECT_EQ(launch_in(stream, 1, 1, 0, increment, x.data()), cudaErrorLaunchOutOfResources);
  EXPECT_EQ(launch_in(stream, 1, 1, 0, increment, x.data()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(x[0], 1);
}

TEST_F(Failures, OfAKernelLoseTheDevice) {
  const TestStream stream;
  const TestArray<int> x(TestArray<int>::pinned, 1);
  const TestEvent event;
  x[0] = 0;
  fail_next("kernel", cudaErrorLaunchFailure, 1);
  for (int i = 0; i < 3; ++i) launch_in(stream, 1, 1, 0, increment, x.data());
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_EQ(x[0], 1) << "what comes after the failed kernel is dropped";
  EXPECT_EQ(cudaEventRecord(event, stream), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorLaunchFailure);
  EXPECT_EQ(last_fault(), "") << "a planned failure is none of the program's";
  reset();
}

TEST_F(Failures, ALostDeviceGivesBackWhatItHas) {
  {
    const TestStream stream;
    const TestEvent event;
    const TestArray<int> memory(TestArray<int>::device, 4);
    const TestArray<int> pinned(TestArray<int>::pinned, 4);
    lose_device(0, cudaErrorECCUncorrectable);
    EXPECT_EQ(cudaStreamQuery(stream), cudaErrorECCUncorrectable);
    EXPECT_EQ(launch_in(stream, 1, 1, 0, increment, memory.data()), cudaErrorECCUncorrectable);
    EXPECT_EQ(cudaFree(nullptr), cudaErrorECCUncorrectable);
  }
  EXPECT_EQ(check_leaks(), "");
  int device = -1;
  EXPECT_EQ(cudaGetDevice(&device), cudaErrorECCUncorrectable);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess) << "the other one works";
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  reset();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

__global__ void spin(unsigned* flag) {
  while (atomicAdd(flag, 0u) == 0) __nanosleep(100);
}

TEST_F(Failures, ALostDeviceEndsSpinningKernels) {
  const TestStream stream;
  const TestArray<unsigned> flag(TestArray<unsigned>::pinned, 1);
  flag[0] = 0;
  launch_in(stream, 1, 64, 0, spin, flag.data());
  lose_device(0, cudaErrorLaunchTimeout);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchTimeout);
  EXPECT_EQ(last_fault(), "");
  reset();
}

TEST_F(Failures, MachinesWithoutDevicesOrWithOldDrivers) {
  int count = -1;
  reset({.num_devices = 3});
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 3);
  EXPECT_EQ(cudaSetDevice(3), cudaErrorInvalidDevice);
  reset({.num_devices = 0});
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorNoDevice);
  reset({.driver_version = 11080});
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_EQ(cudaSetDevice(0), cudaErrorInsufficientDriver);
  int version = 0;
  EXPECT_EQ(cudaDriverGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version, 11080);
  EXPECT_EQ(cudaRuntimeGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version, CUDART_VERSION);
  reset();
}

TEST_F(Failures, DevicesDescribeThemselves) {
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 1), cudaSuccess);
  EXPECT_STREQ(properties.name, "Emulated device 1");
  int value = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 1), cudaSuccess);
  EXPECT_EQ(value, properties.major);
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
  EXPECT_EQ(value, 227 << 10);
  char bus_id[16];
  EXPECT_EQ(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), 1), cudaSuccess);
  EXPECT_STREQ(bus_id, "0000:02:00.0");
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 2), cudaErrorInvalidDevice);
}

TEST_F(Failures, HaveNamesAndTexts) {
  EXPECT_STREQ(cudaGetErrorName(cudaErrorNotReady), "cudaErrorNotReady");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
  EXPECT_STREQ(cudaGetErrorString(static_cast<cudaError_t>(998)), "unrecognized error code");
}

TEST_F(Failures, LeaksAreCounted) {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamDefault), cudaSuccess);
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(check_leaks(), "alive: 1 streams, 1 events");
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(check_leaks(), "");
}

}  // namespace
}  // namespace emulator
