#pragma once

#include "bench/gpu/options.h"
#include "gpu/device.h"

namespace tandem::bench {

/// Attention of chunks of queries of one KV head over bf16 rows in host memory, through `device`: a row per length,
/// chunk, and who copies (one thread, or all cores). `to_device` is GB/s of pinned copies, which the floor is made of.
/// Throws Error(out_of_memory | device_lost).
Json measure_streamed_rows(gpu::Device& device, const GpuOptions& options, double to_device);

}  // namespace tandem::bench
