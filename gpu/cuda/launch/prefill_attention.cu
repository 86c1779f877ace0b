#include <algorithm>

#include "gpu/cuda/kernels/prefill_attention.cuh"
#include "gpu/cuda/kernels/prefill_result.cuh"
#include "gpu/cuda/kernels/prefill_tensor.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launch/tensor_cores.h"
#include "gpu/cuda/prefill_launchers.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::size_t kAtMost = 96 * 1024;  // sm_86 and later small ones have 99 KB, the older ones that come here more

struct Kernel {
  void (*function)(PrefillRows, Queries, PrefillStates, bool);
  int vectors, threads;
  std::size_t shared_bytes;
};

template <typename T, int Dims>
Kernel with_units() {
  using Tile = PrefillTile<Dims>;
  static_assert(sizeof(typename Tile::Shared) <= 64 * 1024);  // of sm_75
  static_assert(kPrefillTileRows % Tile::kRows == 0);
  return {prefill_attention<T, Dims>, Tile::kVectors, kPrefillThreads, sizeof(typename Tile::Shared)};
}

template <typename T, int Dims>
Kernel with_tensor_cores() {
  using Warp = PrefillWarp<T, Dims>;
  static_assert(sizeof(typename Warp::Shared) <= kAtMost);
  static_assert(kPrefillTileRows % Warp::kRows == 0);
  return {prefill_tensor_attention<T, Dims>, Warp::kVectors, Warp::kThreads, sizeof(typename Warp::Shared)};
}

template <typename T>
Kernel kernel_for(std::int32_t padded_dim) {
  if constexpr (T::kBytes == 2) {
    if (has_tensor_cores()) {
      return padded_dim <= 64    ? with_tensor_cores<T, 64>()
             : padded_dim <= 128 ? with_tensor_cores<T, 128>()
                                 : with_tensor_cores<T, 256>();
    }
  }
  return padded_dim <= 64 ? with_units<T, 64>() : padded_dim <= 128 ? with_units<T, 128>() : with_units<T, 256>();
}

}  // namespace

void launch_prefill_attention(RowType type, const PrefillRows& rows, const Queries& queries,
                              const PrefillStates& states, bool is_first, cudaStream_t stream) {
  constexpr std::size_t kEverywhere = 48 * 1024;  // what blocks have without asking
  const std::int32_t dim = std::max(rows.padded_k, rows.padded_v);
  const Kernel kernel = type == RowType::f16    ? kernel_for<F16>(dim)
                        : type == RowType::bf16 ? kernel_for<Bf16>(dim)
                                                : kernel_for<F32>(dim);
  if (kernel.shared_bytes > kEverywhere) {
    TANDEM_CUDA_CHECK(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(kernel.shared_bytes)));
  }
  const dim3 grid(static_cast<unsigned>((states.num_vectors + kernel.vectors - 1) / kernel.vectors), kPrefillSplits);
  launch(kernel.function, grid, dim3(static_cast<unsigned>(kernel.threads)), kernel.shared_bytes, stream, rows, queries,
         states, is_first);
}

void launch_merge_prefill_states(const PrefillStates& states, std::int32_t padded_v, std::int32_t dim_v,
                                 Partials results, cudaStream_t stream) {
  launch(merge_prefill_states, dim3(static_cast<unsigned>(states.num_vectors)), dim3(kPrefillResultThreads), 0, stream,
         states, padded_v, dim_v, results);
}

}  // namespace tandem::gpu::cuda
