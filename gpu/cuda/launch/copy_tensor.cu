#include "gpu/cuda/kernels/copy_tensor.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {
namespace {

/// The largest power of two up to 16 that divides addresses, strides and the row.
std::uintptr_t alignment_of(const TensorCopy& copy) {
  std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(copy.source) | reinterpret_cast<std::uintptr_t>(copy.target) |
                        static_cast<std::uintptr_t>(copy.row_bytes) | 16;
  for (const std::int64_t stride :
       {copy.source_strides[0], copy.source_strides[1], copy.target_strides[0], copy.target_strides[1]})
    bits |= static_cast<std::uintptr_t>(stride);
  return bits & (~bits + 1);
}

}  // namespace

void launch_copy_tensor(const TensorCopy& copy, cudaStream_t stream) {
  if (copy.num_rows == 0) return;
  constexpr std::int64_t kWarps = kCopyThreads / 32;
  const std::uintptr_t alignment = alignment_of(copy);
  const auto kernel = alignment >= 16  ? copy_tensor<uint4>
                      : alignment >= 4 ? copy_tensor<std::uint32_t>
                                       : copy_tensor<std::uint16_t>;
  launch(kernel, dim3(static_cast<unsigned>((copy.num_rows + kWarps - 1) / kWarps)), dim3(kCopyThreads), 0, stream,
         copy);
}

}  // namespace tandem::gpu::cuda
