#pragma once

#include <cuda_runtime_api.h>

#include "bench/gpu/figures.h"
#include "bench/gpu/options.h"

namespace tandem::bench {

/// {"call_us": the host's time of one launch, "each_us": the device's time of each of many empty kernels in a row}.
/// Throws Error(device_lost).
Json measure_launches(cudaStream_t stream, const GpuOptions& options);

/// Round trips of every hand-off, with an empty kernel before the signal and without, in us of the host; all of them
/// take turns. A hand-off that the device does not have says what it became. Throws Error(device_lost).
Json measure_hand_offs(cudaStream_t stream, const GpuOptions& options);

}  // namespace tandem::bench
