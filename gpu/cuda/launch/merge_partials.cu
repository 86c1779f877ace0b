#include "gpu/cuda/kernels/merge_partials.cuh"
#include "gpu/cuda/launch.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {

void launch_merge_partials(const MergeItem* items, std::int64_t num_items, Partials partials, std::int32_t dim_v,
                           cudaStream_t stream) {
  if (num_items == 0) return;
  launch(merge_partials, dim3(static_cast<unsigned>(num_items)), dim3(kMergeThreads), 0, stream, items, partials,
         dim_v);
}

}  // namespace tandem::gpu::cuda
