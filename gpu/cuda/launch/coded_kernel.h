#pragma once

#include <algorithm>
#include <cstdint>

#include "gpu/cuda/kernels/coded_attention.cuh"
#include "gpu/cuda/launch.h"

namespace tandem::gpu::cuda {

/// Launches coded_attention() for items of `vectors` query vectors, of which a block of threads takes 4 at most: two
/// blocks that read the same tokens of an item hold no more registers than one that reads rows.
template <typename Codec>
void launch_coded(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs, const WorkItem* items,
                  std::int64_t num_items, Partials partials, cudaStream_t stream) {
  const bool is_wide = std::max(format.padded_k, format.padded_v) > 128;
  const auto kernel = vectors == 1 ? is_wide ? coded_attention<Codec, 32, 1> : coded_attention<Codec, 16, 1>
                      : is_wide ? coded_attention<Codec, 32, 4>
                                   : coded_attention<Codec, 16, 4>;
  const dim3 grid(static_cast<unsigned>(num_items), vectors > 4 ? 2 : 1);
  launch(kernel, grid, dim3(kCodedThreads), 0, stream, jobs, items, partials);
}

}  // namespace tandem::gpu::cuda
