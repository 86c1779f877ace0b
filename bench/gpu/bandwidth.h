#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "bench/gpu/figures.h"
#include "bench/gpu/options.h"

namespace tandem::bench {

/// The device that is measured.
struct GpuTarget {
  cudaStream_t stream;
  int blocks;  ///< that keep all of its multiprocessors reading
};

/// {"copy", "read"}: GB/s within the device, bytes of copies counted twice, and what copies and reads take in turn;
/// {"to_device", "to_host"}: of pinned copies, by size. Throws Error(out_of_memory | device_lost).
Json measure_bandwidth(const GpuTarget& target, const GpuOptions& options);

/// GB/s at which windows could be read: the larger of copies and reads.
double best_bandwidth(const Json& bandwidth);

}  // namespace tandem::bench
