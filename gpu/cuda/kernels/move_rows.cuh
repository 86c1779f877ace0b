#pragma once

#include "gpu/cuda/kernels/elements.cuh"
#include "gpu/cuda/kernels/work.cuh"

namespace tandem::gpu::cuda {

inline constexpr int kMoveThreads = 128;

/// A warp for each run.
__global__ void __launch_bounds__(kMoveThreads) move_runs(const MoveItem* __restrict__ items, std::int64_t num_items) {
  constexpr int kWarps = kMoveThreads / 32;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index >= num_items) return;
  const MoveItem item = items[index];
  const auto* source = reinterpret_cast<const uint4*>(item.source);
  auto* target = reinterpret_cast<uint4*>(item.target);
  for (std::int64_t i = threadIdx.x % 32; i < item.bytes / 16; i += 32) target[i] = source[i];
}

/// A warp for each row of elements T.
template <typename T>
__global__ void __launch_bounds__(kMoveThreads)
    unpack_rows(const UnpackItem* __restrict__ items, std::int64_t num_items, std::int32_t padded_k,
                std::int32_t padded_v, std::int32_t v_offset) {
  constexpr int kWarps = kMoveThreads / 32;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index >= num_items) return;
  const UnpackItem item = items[index];
  for (int i = static_cast<int>(threadIdx.x) % 32; i < (padded_k + padded_v) / 8; i += 32) {
    const bool is_v = i * 8 >= padded_k;
    const int element = is_v ? i * 8 - padded_k : i * 8;
    float x[8];
    unpack8(load_raw8<T>(item.row + (is_v ? v_offset : 0) + element * T::kBytes), x);
    float* target = (is_v ? item.v : item.k) + element;
#pragma unroll
    for (int e = 0; e < 8; ++e) target[e] = x[e];
  }
}

}  // namespace tandem::gpu::cuda
