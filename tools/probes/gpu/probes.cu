#include <algorithm>

#include "gpu/cuda/launch.h"
#include "tools/probes/gpu/probes.h"

namespace tandem::probes {
namespace {

constexpr int kReadThreads = 256;
constexpr std::uint32_t kUnlikely = 0x9e3779b9u;

__global__ void do_nothing() {}

/// The sum is written in a case that memory of zeros never makes, so that no load is left out.
__global__ void __launch_bounds__(kReadThreads)
    read_memory(const uint4* __restrict__ data, std::int64_t count, std::uint32_t* sink) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kReadThreads;
  std::uint32_t sum = 0;
#pragma unroll 8
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kReadThreads + threadIdx.x; i < count; i += stride) {
    const uint4 x = data[i];
    sum ^= x.x ^ x.y ^ x.z ^ x.w;
  }
  if (sum == kUnlikely) *sink = sum;
}

}  // namespace

void launch_empty(cudaStream_t stream) { gpu::cuda::launch(do_nothing, dim3(1), dim3(32), 0, stream); }

void launch_read(const void* data, std::int64_t bytes, int blocks, std::uint32_t* sink, cudaStream_t stream) {
  const std::int64_t count = bytes / static_cast<std::int64_t>(sizeof(uint4));
  const std::int64_t useful = std::min<std::int64_t>(blocks, (count + kReadThreads - 1) / kReadThreads);
  if (useful == 0) return;
  gpu::cuda::launch(read_memory, dim3(static_cast<unsigned>(useful)), dim3(kReadThreads), 0, stream,
                    static_cast<const uint4*>(data), count, sink);
}

}  // namespace tandem::probes
