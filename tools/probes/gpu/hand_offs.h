#pragma once

#include <functional>

#include <cuda_runtime_api.h>

#include "tools/probes/gpu/figures.h"
#include "tools/probes/gpu/gpu_probes.h"

namespace tandem::probes {

/// {"call_us": the host's time of one launch, "each_us": the device's time of each of many empty kernels in a row}.
/// Throws Error(device_lost).
Json measure_launches(cudaStream_t stream, const GpuPlan& plan);

/// Round trips of every hand-off, with an empty kernel before the signal and without, in us of the host; all of them
/// take turns. A hand-off that the device does not have says what it became. Throws Error(device_lost).
Json measure_hand_offs(cudaStream_t stream, const GpuPlan& plan, const std::function<void()>& tick);

}  // namespace tandem::probes
