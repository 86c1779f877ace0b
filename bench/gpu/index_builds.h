#pragma once

#include "bench/gpu/options.h"
#include "gpu/device.h"

namespace tandem::bench {

/// Wall clock of one worker that codes the rows of a head into its index, with the device's help and without: sketches
/// by a map that is there, SimHash tables from the first row on. Throws Error(out_of_memory | device_lost).
Json measure_index_builds(gpu::Device& device, const GpuOptions& options);

}  // namespace tandem::bench
