#include <algorithm>
#include <cmath>

#include "testing.h"

// Kernels with one mistake each, which the emulator must report.

namespace emulator {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr unsigned kAllLanes = 0xffffffffu;

class PlantedFaults : public EmulatorTest, public testing::WithParamInterface<Order> {
 protected:
  void SetUp() override { reset({.order = GetParam(), .seed = 5}); }
  void TearDown() override {
    reset();  // the faulty kernels have lost the device
    EmulatorTest::TearDown();
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, PlantedFaults, testing::Values(Order::forward, Order::reverse, Order::random));

__global__ void barrier_in_a_branch() {
  if (threadIdx.x < 16) __syncthreads();
}
TEST_P(PlantedFaults, BarrierInABranch) {
  EXPECT_THAT(run_kernel(1, 64, 0, barrier_in_a_branch),
              AllOf(HasSubstr("exited"), HasSubstr("__syncthreads"), HasSubstr("planted_faults_test.cpp:")));
}

__global__ void two_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
TEST_P(PlantedFaults, DifferentBarriers) {
  EXPECT_THAT(run_kernel(1, 64, 0, two_barriers), HasSubstr("wait at different __syncthreads"));
}

__global__ void early_exit() {
  if (threadIdx.x == 40) return;
  __syncthreads();
}
TEST_P(PlantedFaults, EarlyExitBeforeABarrier) {
  EXPECT_THAT(run_kernel(dim3(2), 64, 0, early_exit), HasSubstr("exited"));
}

__global__ void shuffle_in_a_branch(float* out) {
  float x = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) x = __shfl_xor_sync(kAllLanes, x, 1);
  out[threadIdx.x] = x;
}
TEST_P(PlantedFaults, ShuffleInABranch) {
  const TestArray<float> out(TestArray<float>::pinned, 32);
  EXPECT_THAT(run_kernel(1, 32, 0, shuffle_in_a_branch, out.data()), HasSubstr("exited"));
}

__global__ void shuffles_of_two_branches(float* out) {
  float x = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) {
    x = __shfl_xor_sync(kAllLanes, x, 1);
  } else {
    __syncwarp();
  }
  out[threadIdx.x] = x;
}
TEST_P(PlantedFaults, DifferentCollectives) {
  const TestArray<float> out(TestArray<float>::pinned, 32);
  EXPECT_THAT(run_kernel(1, 32, 0, shuffles_of_two_branches, out.data()), HasSubstr("different collectives"));
}

__global__ void masks_that_disagree(unsigned* out) {
  out[threadIdx.x] = __ballot_sync(threadIdx.x == 7 ? 0xffu : kAllLanes, 1);
}
TEST_P(PlantedFaults, MasksThatDisagree) {
  const TestArray<unsigned> out(TestArray<unsigned>::pinned, 32);
  EXPECT_THAT(run_kernel(1, 32, 0, masks_that_disagree, out.data()), HasSubstr("disagree on the mask"));
}

__global__ void mask_without_the_caller(unsigned* out) { out[threadIdx.x] = __ballot_sync(0x7fffffffu, 1); }
TEST_P(PlantedFaults, MaskWithoutTheCaller) {
  const TestArray<unsigned> out(TestArray<unsigned>::pinned, 32);
  EXPECT_THAT(run_kernel(1, 32, 0, mask_without_the_caller, out.data()),
              AllOf(HasSubstr("does not name the calling lane"), HasSubstr("[block 0,0,0 thread 31,0,0]")));
}

__global__ void mask_of_missing_lanes(unsigned* out) { out[threadIdx.x] = __ballot_sync(kAllLanes, 1); }
TEST_P(PlantedFaults, MaskOfLanesThatDoNotExist) {
  const TestArray<unsigned> out(TestArray<unsigned>::pinned, 48);
  EXPECT_THAT(run_kernel(1, 48, 0, mask_of_missing_lanes, out.data()), HasSubstr("do not exist"));
}

__global__ void shuffle_from_outside(int* out) { out[threadIdx.x] = __shfl_sync(0xffffu, 1, 16); }
TEST_P(PlantedFaults, ShuffleFromOutsideTheMask) {
  const TestArray<int> out(TestArray<int>::pinned, 16);
  EXPECT_THAT(run_kernel(1, 16, 0, shuffle_from_outside, out.data()), HasSubstr("a lane outside the mask"));
}

__global__ void odd_width(int* out) { out[threadIdx.x] = __shfl_sync(kAllLanes, 1, 0, 12); }
TEST_P(PlantedFaults, WidthThatIsNoPowerOfTwo) {
  const TestArray<int> out(TestArray<int>::pinned, 32);
  EXPECT_THAT(run_kernel(1, 32, 0, odd_width, out.data()), HasSubstr("width of a shuffle is 12"));
}

__global__ void barrier_against_shuffle() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}
TEST_P(PlantedFaults, Deadlock) {
  EXPECT_THAT(run_kernel(1, 32, 0, barrier_against_shuffle),
              AllOf(HasSubstr("deadlock in block 0,0,0: 16 threads wait at __syncthreads"),
                    HasSubstr("16 of 32 lanes wait at __syncwarp")));
}

__global__ void spin_for_ever(const unsigned* flag) {
  while (*static_cast<const volatile unsigned*>(flag) == 0) __nanosleep(100);
}
TEST_P(PlantedFaults, SpinForEver) {
  reset({.order = GetParam(), .spin_limit_ms = 20});
  const TestArray<unsigned> flag(TestArray<unsigned>::pinned, 1);
  flag[0] = 0;
  EXPECT_THAT(run_kernel(1, 32, 0, spin_for_ever, flag.data()),
              AllOf(HasSubstr("spin beyond the limit"), HasSubstr("planted_faults_test.cpp:")));
}

struct Values {
  float value[64];
};
__global__ void no_barrier(float* out) {
  struct Tag {};
  Values& values = shared<Values, Tag>();
  values.value[threadIdx.x] = 1.f;
  out[threadIdx.x] = values.value[63 - threadIdx.x];
}
TEST_P(PlantedFaults, MissingBarrierReadsJunk) {
  const TestArray<float> out(TestArray<float>::pinned, 64);
  EXPECT_EQ(run_kernel(1, 64, 0, no_barrier, out.data()), "");
  EXPECT_TRUE(std::any_of(out.data(), out.data() + 64, [](float x) { return std::isnan(x); }));
}

__global__ void read_unwritten(float* out) {
  struct Tag {};
  out[0] = shared<Values, Tag>().value[0];
  out[1] = *reinterpret_cast<float*>(dynamic_shared());
  shared<Values, Tag>().value[0] = 1.f;  // not for the next block to find
}
TEST_P(PlantedFaults, UnwrittenSharedMemoryIsJunk) {
  const TestArray<float> out(TestArray<float>::pinned, 2);
  EXPECT_EQ(run_kernel(2, 1, 4, read_unwritten, out.data()), "");
  EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[1]));
}

struct Large {
  float value[(48 << 10) / 4];
};
__global__ void too_much_shared() {
  struct Tag {};
  struct OtherTag {};
  shared<Large, Tag>().value[0] = 0.f;
  shared<Values, OtherTag>().value[0] = 0.f;
}
TEST_P(PlantedFaults, TooMuchSharedMemory) {
  EXPECT_THAT(run_kernel(1, 1, 0, too_much_shared), HasSubstr("more shared memory"));
}

__global__ void set(float* out) { *out = 1.f; }
TEST_P(PlantedFaults, PointerToHostMemory) {
  float x = 0;
  const TestStream stream;
  EXPECT_EQ(launch_in(stream, 1, 1, 0, set, &x), cudaErrorInvalidValue);
  EXPECT_THAT(take_fault(), HasSubstr("what a parameter points to lies neither in device memory"));
}

TEST_P(PlantedFaults, AFaultLosesTheDevice) {
  const TestStream stream;
  launch_in(stream, 1, 64, 0, barrier_in_a_branch);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 1), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress) << "the error stays";
  EXPECT_NE(last_fault(), "");
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(last_fault(), "");
}

// Accesses that the address sanitizer reports, and guard zones in builds without it.
#if defined(__SANITIZE_ADDRESS__)
#define EXPECT_OVERRUN(statement) EXPECT_DEATH({ statement; }, "use-after-poison")
#else
#define EXPECT_OVERRUN(statement) EXPECT_THAT(statement, HasSubstr("a write beside"))
#endif

__global__ void write_at(unsigned char* data, std::ptrdiff_t index) { data[index] = 1; }
__global__ void write_shared_at(int index) {
  struct Tag {};
  reinterpret_cast<volatile unsigned char*>(&shared<Values, Tag>())[index] = 1;
}
__global__ void write_dynamic_at(int index) { static_cast<volatile unsigned char*>(dynamic_shared())[index] = 1; }

class Overruns : public PlantedFaults {};
INSTANTIATE_TEST_SUITE_P(Orders, Overruns, testing::Values(Order::forward));

TEST_P(Overruns, OfDeviceMemory) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  for (const std::ptrdiff_t index : {100, 163, -1}) {
    reset();
    void* pointer = nullptr;
    ASSERT_EQ(cudaMalloc(&pointer, 100), cudaSuccess);
    EXPECT_OVERRUN(run_kernel(1, 1, 0, write_at, static_cast<unsigned char*>(pointer), index)) << index;
    cudaFree(pointer);
    take_fault();  // freeing finds it again
  }
}

TEST_P(Overruns, OfSharedMemory) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_OVERRUN(run_kernel(1, 1, 0, write_shared_at, static_cast<int>(sizeof(Values))));
  reset();
  EXPECT_OVERRUN(run_kernel(1, 1, 100, write_dynamic_at, 100));
  reset();
  EXPECT_OVERRUN(run_kernel(1, 1, 100, write_dynamic_at, -1));
}

}  // namespace
}  // namespace emulator
