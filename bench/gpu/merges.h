#pragma once

#include <cuda_runtime_api.h>

#include "bench/gpu/options.h"

namespace tandem::bench {

/// The device's time for merge_partials, per number of query vectors and of the partials of each, which lie in its
/// caches as an attention kernel leaves them. Throws Error(out_of_memory | device_lost).
Json measure_merges(cudaStream_t stream, const GpuOptions& options);

}  // namespace tandem::bench
