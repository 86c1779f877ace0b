#include <algorithm>
#include <numeric>

#include "testing.h"

namespace emulator {
namespace {

/// Kernels in all orders of threads.
class Kernels : public EmulatorTest, public testing::WithParamInterface<Order> {
 protected:
  void SetUp() override { reset({.order = GetParam(), .seed = 3}); }
};
INSTANTIATE_TEST_SUITE_P(Orders, Kernels, testing::Values(Order::forward, Order::reverse, Order::random));

__global__ void number_threads(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

TEST_P(Kernels, EachThreadRunsOnce) {
  const TestArray<unsigned> out(TestArray<unsigned>::pinned, 2 * 3 * 2 * 5 * 3 * 2);
  std::fill_n(out.data(), 360, 7u);
  EXPECT_EQ(run_kernel(dim3(2, 3, 2), dim3(5, 3, 2), 0, number_threads, out.data()), "");
  for (unsigned i = 0; i < 360; ++i) EXPECT_EQ(out[i], 7 + i / 30 * 1000 + i % 30);
}

struct Sums {
  float of_warp[32];
};
__global__ void block_sum(const float* in, float* out) {
  struct Tag {};
  Sums& sums = shared<Sums, Tag>();
  float sum = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (threadIdx.x % 32 == 0) sums.of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) sum += sums.of_warp[warp];
    out[blockIdx.x] = sum;
  }
}

TEST_P(Kernels, BlocksAddUp) {
  const TestArray<float> in(TestArray<float>::pinned, 3 * 1024);
  const TestArray<float> out(TestArray<float>::pinned, 3);
  std::iota(in.data(), in.data() + 3 * 1024, 0.f);
  for (unsigned threads : {32u, 96u, 1024u}) {
    EXPECT_EQ(run_kernel(3, threads, 0, block_sum, in.data(), out.data()), "");
    for (unsigned i = 0; i < 3; ++i) {
      EXPECT_EQ(out[i], std::accumulate(&in[i * threads], &in[i * threads] + threads, 0.f));
    }
  }
}

__global__ void reverse_in_dynamic_shared(int* data) {
  int* copy = reinterpret_cast<int*>(dynamic_shared());
  copy[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = copy[blockDim.x - 1 - threadIdx.x];
}

TEST_P(Kernels, DynamicSharedMemoryIsOfTheBlock) {
  const TestArray<int> data(TestArray<int>::pinned, 100);
  std::iota(data.data(), data.data() + 100, 0);
  EXPECT_EQ(run_kernel(1, 100, 400, reverse_in_dynamic_shared, data.data()), "");
  for (int i = 0; i < 100; ++i) EXPECT_EQ(data[static_cast<std::size_t>(i)], 99 - i);
}

__global__ void shuffles(int width, int argument, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto delta = static_cast<unsigned>(argument);
  out[lane] = __shfl_sync(0xffffffffu, lane, argument, width);
  out[32 + lane] = __shfl_xor_sync(0xffffffffu, lane, argument, width);
  out[64 + lane] = __shfl_up_sync(0xffffffffu, lane, delta, width);
  out[96 + lane] = __shfl_down_sync(0xffffffffu, lane, delta, width);
}

TEST_P(Kernels, Shuffles) {  // against the table of the PTX instruction shfl
  const TestArray<int> out(TestArray<int>::pinned, 128);
  for (int width : {1, 2, 8, 32}) {
    for (int argument : {0, 1, 3, 5, 16, 31}) {
      EXPECT_EQ(run_kernel(1, 32, 0, shuffles, width, argument, out.data()), "");
      for (int lane = 0; lane < 32; ++lane) {
        const int first = lane / width * width;
        const int end = first + width;
        EXPECT_EQ(out.data()[lane], first + argument % width) << width << " " << argument << " " << lane;
        EXPECT_EQ(out.data()[32 + lane], (lane ^ argument) < end ? lane ^ argument : lane);
        EXPECT_EQ(out.data()[64 + lane], lane - argument >= first ? lane - argument : lane);
        EXPECT_EQ(out.data()[96 + lane], lane + argument < end ? lane + argument : lane);
      }
    }
  }
}

__global__ void shuffle_doubles(double* out) {
  const double value = threadIdx.x + 0.1;
  out[threadIdx.x] = __shfl_sync(0xffffffffu, value, 31 - static_cast<int>(threadIdx.x));
}

TEST_P(Kernels, ShufflesOfEightBytes) {
  const TestArray<double> out(TestArray<double>::pinned, 32);
  EXPECT_EQ(run_kernel(1, 32, 0, shuffle_doubles, out.data()), "");
  for (unsigned lane = 0; lane < 32; ++lane) EXPECT_EQ(out[lane], (31 - lane) + 0.1);
}

/// Half warps part and meet again, with different numbers of collectives.
__global__ void halves(unsigned* out) {
  const unsigned lane = threadIdx.x;
  unsigned sum = lane;
  if (lane < 16) {
    for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffu, sum, distance, 16);
  } else {
    sum = __shfl_sync(0xffff0000u, sum, 3, 16);
  }
  __syncwarp();
  out[lane] = __shfl_xor_sync(0xffffffffu, sum, 16);
}

TEST_P(Kernels, HalfWarpsWorkApart) {
  const TestArray<unsigned> out(TestArray<unsigned>::pinned, 32);
  EXPECT_EQ(run_kernel(1, 32, 0, halves, out.data()), "");
  for (unsigned lane = 0; lane < 32; ++lane) EXPECT_EQ(out[lane], lane < 16 ? 19u : 120u);
}

__global__ void votes(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[lane] = __ballot_sync(0xffffffffu, lane % 3 == 0);
  out[32 + lane] = static_cast<unsigned>(__any_sync(0xffffffffu, lane == 9)) +
                   2u * static_cast<unsigned>(__any_sync(0xffffffffu, lane == 99)) +
                   4u * static_cast<unsigned>(__all_sync(0xffffffffu, lane < 32)) +
                   8u * static_cast<unsigned>(__all_sync(0xffffffffu, lane < 31));
}

TEST_P(Kernels, Votes) {
  const TestArray<unsigned> out(TestArray<unsigned>::pinned, 64);
  EXPECT_EQ(run_kernel(1, 32, 0, votes, out.data()), "");
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(out[lane], 0x49249249u);
    EXPECT_EQ(out[32 + lane], 5u);
  }
}

__global__ void atomics(unsigned* out, float* sum, unsigned* finished) {
  atomicAdd(&out[0], 1);
  atomicMax(&out[1], threadIdx.x);
  atomicMin(&out[2], threadIdx.x);
  atomicOr(&out[3], 1u << threadIdx.x % 32);
  atomicAdd(sum, 0.5f);
  atomicCAS(&out[4], 5u, threadIdx.x);  // only the first one finds 5
  __threadfence();
  if (atomicAdd(finished, 1u) == gridDim.x * blockDim.x - 1) out[5] = out[0];
}

TEST_P(Kernels, AtomicsAndTheLastThread) {
  const TestArray<unsigned> out(TestArray<unsigned>::pinned, 7);
  const TestArray<float> sum(TestArray<float>::pinned, 1);
  const unsigned start[7] = {0, 0, 1000, 0, 5, 0, 0};
  std::copy_n(start, 7, out.data());
  sum[0] = 0.f;
  EXPECT_EQ(run_kernel(4, 64, 0, atomics, out.data(), sum.data(), &out[6]), "");
  EXPECT_EQ(out[0], 256u);
  EXPECT_EQ(out[1], 63u);
  EXPECT_EQ(out[2], 0u);
  EXPECT_EQ(out[3], 0xffffffffu);
  EXPECT_NE(out[4], 5u);
  EXPECT_EQ(out[5], 256u);
  EXPECT_EQ(sum[0], 128.f);
}

/// Threads of one block that wait for each other without a barrier.
__global__ void relay(unsigned* turn) {
  while (atomicAdd(turn, 0u) != threadIdx.x) __nanosleep(10);
  atomicAdd(turn, 1u);
}

TEST_P(Kernels, SpinningThreadsLetOthersRun) {
  const TestArray<unsigned> turn(TestArray<unsigned>::pinned, 1);
  turn[0] = 0;
  EXPECT_EQ(run_kernel(1, 40, 0, relay, turn.data()), "");
  EXPECT_EQ(turn[0], 40u);
}

__global__ void order_of_threads(unsigned* order, unsigned* next) {
  order[atomicAdd(next, 1u)] = blockIdx.x * blockDim.x + threadIdx.x;
}

TEST_P(Kernels, RunInTheOrderAskedFor) {
  const TestArray<unsigned> order(TestArray<unsigned>::pinned, 193);
  order[192] = 0;
  EXPECT_EQ(run_kernel(3, 64, 0, order_of_threads, order.data(), &order[192]), "");
  const bool up = std::is_sorted(order.data(), order.data() + 192);
  const bool down = std::is_sorted(order.data(), order.data() + 192, std::greater<>());
  EXPECT_EQ(up, GetParam() == Order::forward);
  EXPECT_EQ(down, GetParam() == Order::reverse);
}

TEST_F(EmulatorTest, ASeedMeansAnOrder) {
  const TestArray<unsigned> order(TestArray<unsigned>::pinned, 65);
  std::vector<unsigned> first;
  for (const std::uint64_t seed : {1, 2}) {
    reset({.order = Order::random, .seed = seed});
    order[64] = 0;
    EXPECT_EQ(run_kernel(1, 64, 0, order_of_threads, order.data(), &order[64]), "");
    if (first.empty()) first.assign(order.data(), order.data() + 64);
  }
  EXPECT_FALSE(std::equal(first.begin(), first.end(), order.data()));
}

TEST_F(EmulatorTest, CountsKernelsAndSwitches) {
  const Counters before = counters();
  const TestArray<unsigned> order(TestArray<unsigned>::pinned, 65);
  order[64] = 0;
  EXPECT_EQ(run_kernel(1, 64, 0, order_of_threads, order.data(), &order[64]), "");
  EXPECT_EQ(counters().kernels, before.kernels + 1);
  EXPECT_EQ(counters().fiber_switches, before.fiber_switches + 65);  // into each thread, and back
}

}  // namespace
}  // namespace emulator
