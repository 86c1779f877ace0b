#pragma once

#include "gpu/cuda/kernels/work.cuh"

namespace tandem::gpu::cuda {

inline constexpr int kCopyThreads = 128;

/// A warp for each row, in words that addresses, strides and rows are multiples of.
template <typename Word>
__global__ void __launch_bounds__(kCopyThreads) copy_tensor(TensorCopy copy) {
  constexpr int kWarps = kCopyThreads / 32;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= copy.num_rows) return;
  const std::int64_t token = row / copy.heads, head = row % copy.heads;
  const auto* source =
      reinterpret_cast<const Word*>(copy.source + token * copy.source_strides[0] + head * copy.source_strides[1]);
  auto* target = reinterpret_cast<Word*>(copy.target + token * copy.target_strides[0] + head * copy.target_strides[1]);
  const int words = copy.row_bytes / static_cast<int>(sizeof(Word));
  for (int i = static_cast<int>(threadIdx.x) % 32; i < words; i += 32) target[i] = source[i];
}

}  // namespace tandem::gpu::cuda
