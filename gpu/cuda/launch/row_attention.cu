#include "gpu/cuda/kernels/row_attention.cuh"
#include "gpu/cuda/kernels/row_tensor.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launch/tensor_cores.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {
namespace {

struct Kernel {
  void (*function)(const RowJob*, const WorkItem*, Partials);
  std::int32_t vectors;
  int threads;
};

template <typename T, int Lanes>
Kernel with_units(std::int32_t vectors) {
  return vectors <= 4 ? Kernel{row_attention<T, Lanes, 4>, 4, kRowThreads}
                      : Kernel{row_attention<T, Lanes, 8>, 8, kRowThreads};
}

template <typename T, int Dims, int Tiles>
Kernel with_tensor_cores() {
  using Warp = RowTensorWarp<T, Dims, Tiles>;
  static_assert(sizeof(typename Warp::Shared) <= 48 * 1024);
  return {row_tensor_attention<T, Dims, Tiles>, Warp::kVectors, kRowTensorThreads};
}

template <typename T>
Kernel kernel_for(std::int32_t padded_dim, std::int32_t vectors) {
  if constexpr (T::kBytes == 2) {
    if (has_tensor_cores()) {
      const bool one_tile = vectors <= 8;
      // Two tiles of 256 elements would not fit the registers.
      return padded_dim <= 64    ? (one_tile ? with_tensor_cores<T, 64, 1>() : with_tensor_cores<T, 64, 2>())
             : padded_dim <= 128 ? (one_tile ? with_tensor_cores<T, 128, 1>() : with_tensor_cores<T, 128, 2>())
                                 : with_tensor_cores<T, 256, 1>();
    }
  }
  return padded_dim <= 64    ? with_units<T, 8>(vectors)
         : padded_dim <= 128 ? with_units<T, 16>(vectors)
                             : with_units<T, 32>(vectors);
}

Kernel kernel_for(RowType type, std::int32_t padded_dim, std::int32_t vectors) {
  return type == RowType::f16    ? kernel_for<F16>(padded_dim, vectors)
         : type == RowType::bf16 ? kernel_for<Bf16>(padded_dim, vectors)
                                 : kernel_for<F32>(padded_dim, vectors);
}

}  // namespace

std::int32_t row_vectors_per_item(RowType type, std::int32_t padded_dim, std::int32_t num_vectors) {
  return kernel_for(type, padded_dim, num_vectors).vectors;
}

void launch_row_attention(RowType type, std::int32_t padded_dim, std::int32_t vectors, const RowJob* jobs,
                          const WorkItem* items, std::int64_t num_items, Partials partials, cudaStream_t stream) {
  if (num_items == 0) return;
  const Kernel kernel = kernel_for(type, padded_dim, vectors);
  launch(kernel.function, dim3(static_cast<unsigned>(num_items)), dim3(static_cast<unsigned>(kernel.threads)), 0,
         stream, jobs, items, partials);
}

}  // namespace tandem::gpu::cuda
