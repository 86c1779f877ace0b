#include "gpu/cuda/kernels/row_attention.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {
namespace {

using Kernel = void (*)(const RowJob*, const WorkItem*, Partials);

template <typename T, int Lanes>
Kernel kernel_for(std::int32_t vectors) {
  return vectors <= 4 ? row_attention<T, Lanes, 4> : row_attention<T, Lanes, 8>;
}

template <typename T>
Kernel kernel_for(std::int32_t padded_dim, std::int32_t vectors) {
  return padded_dim <= 64    ? kernel_for<T, 8>(vectors)
         : padded_dim <= 128 ? kernel_for<T, 16>(vectors)
                             : kernel_for<T, 32>(vectors);
}

}  // namespace

std::int32_t vectors_per_item(std::int32_t num_vectors) { return num_vectors <= 1 ? 1 : num_vectors <= 4 ? 4 : 8; }

void launch_row_attention(RowType type, std::int32_t padded_dim, std::int32_t vectors, const RowJob* jobs,
                          const WorkItem* items, std::int64_t num_items, Partials partials, cudaStream_t stream) {
  if (num_items == 0) return;
  const Kernel kernel = type == RowType::f16    ? kernel_for<F16>(padded_dim, vectors)
                        : type == RowType::bf16 ? kernel_for<Bf16>(padded_dim, vectors)
                                                : kernel_for<F32>(padded_dim, vectors);
  launch(kernel, dim3(static_cast<unsigned>(num_items)), dim3(kRowThreads), 0, stream, jobs, items, partials);
}

}  // namespace tandem::gpu::cuda
