#include "gpu/cuda/kernels/attention_mass.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {
namespace {

using Kernel = void (*)(const RowJob*, const MassItem*);

template <typename T>
Kernel kernel_for(std::int32_t padded_dim) {
  return padded_dim <= 64 ? attention_mass<T, 8> : padded_dim <= 128 ? attention_mass<T, 16> : attention_mass<T, 32>;
}

}  // namespace

void launch_attention_mass(RowType type, std::int32_t padded_k, const RowJob* jobs, const MassItem* items,
                           std::int64_t num_items, cudaStream_t stream) {
  if (num_items == 0) return;
  const Kernel kernel = type == RowType::f16    ? kernel_for<F16>(padded_k)
                        : type == RowType::bf16 ? kernel_for<Bf16>(padded_k)
                                                : kernel_for<F32>(padded_k);
  launch(kernel, dim3(static_cast<unsigned>(num_items)), dim3(kRowThreads), 0, stream, jobs, items);
}

}  // namespace tandem::gpu::cuda
