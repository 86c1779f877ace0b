#pragma once

#include <functional>

#include <cuda_runtime_api.h>

#include "tools/probes/gpu/figures.h"
#include "tools/probes/gpu/gpu_probes.h"

namespace tandem::probes {

/// Blocks of a kernel that keep all multiprocessors of a device reading.
inline int reading_blocks(const cudaDeviceProp& properties) noexcept { return 8 * properties.multiProcessorCount; }

/// {"copy", "read"}: GB/s within the current device, bytes of copies counted twice, and what copies and reads take in
/// turn; {"to_device", "to_host"}: of copies of pinned host memory, by size; {"pageable_to_device",
/// "pageable_to_host"}: of the largest, ordinary memory. Throws Error(out_of_memory | device_lost).
Json measure_bandwidth(cudaStream_t stream, int blocks, const GpuPlan& plan, const std::function<void()>& tick);

/// GB/s at which windows could be read: the larger of copies and reads.
double best_bandwidth(const Json& bandwidth);

}  // namespace tandem::probes
