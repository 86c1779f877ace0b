#pragma once

#include <cuda_runtime_api.h>

#include "bench/gpu/options.h"
#include "gpu/device.h"

namespace tandem::bench {

/// The device that is measured.
struct GpuTarget {
  cudaStream_t stream;
  int blocks;  ///< that keep all of its multiprocessors reading
};

/// Attention over windows of every format, length and batch: {"rows": one each, "skipped": those that the device has no
/// memory or no kernels for, and why}. `device` is the target as runtimes use it. Throws Error(device_lost).
Json measure_windows(const GpuTarget& target, gpu::Device& device, const GpuOptions& options, double best_gb_per_s,
                     std::int64_t wash_bytes);

}  // namespace tandem::bench
