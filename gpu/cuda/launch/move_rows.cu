#include "gpu/cuda/kernels/move_rows.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {
namespace {

dim3 grid_for(std::int64_t num_items) {
  constexpr std::int64_t kWarps = kMoveThreads / 32;
  return dim3(static_cast<unsigned>((num_items + kWarps - 1) / kWarps));
}

}  // namespace

void launch_nothing(cudaStream_t stream) {
  launch(move_runs, dim3(1), dim3(kMoveThreads), 0, stream, nullptr, std::int64_t{0});
}

void launch_move_runs(const MoveItem* items, std::int64_t num_items, cudaStream_t stream) {
  if (num_items == 0) return;
  launch(move_runs, grid_for(num_items), dim3(kMoveThreads), 0, stream, items, num_items);
}

void launch_unpack_rows(RowType type, const UnpackItem* items, std::int64_t num_items, std::int32_t padded_k,
                        std::int32_t padded_v, std::int32_t v_offset, cudaStream_t stream) {
  if (num_items == 0) return;
  const auto kernel = type == RowType::f16    ? unpack_rows<F16>
                      : type == RowType::bf16 ? unpack_rows<Bf16>
                                              : unpack_rows<F32>;
  launch(kernel, grid_for(num_items), dim3(kMoveThreads), 0, stream, items, num_items, padded_k, padded_v, v_offset);
}

}  // namespace tandem::gpu::cuda
