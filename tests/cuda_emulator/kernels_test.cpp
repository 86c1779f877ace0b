#include <numeric>
#include <vector>

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
  std::vector<unsigned> out(2 * 3 * 2 * 5 * 3 * 2, 7);
  EXPECT_EQ(run_kernel(dim3(2, 3, 2), dim3(5, 3, 2), 0, number_threads, out.data()), "");
  for (unsigned i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], 7 + i / 30 * 1000 + i % 30);
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
  std::vector<float> in(3 * 1024);
  std::iota(in.begin(), in.end(), 0.f);
  for (unsigned threads : {32u, 96u, 1024u}) {
    std::vector<float> out(3, -1.f);
    EXPECT_EQ(run_kernel(3, threads, 0, block_sum, in.data(), out.data()), "");
    for (unsigned i = 0; i < 3; ++i) {
      EXPECT_EQ(out[i], std::accumulate(&in[i * threads], &in[i * threads] + threads, 0.f));
    }
  }
}

}  // namespace
}  // namespace emulator
