#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::probes {

/// Starts a kernel that does nothing.
void launch_empty(cudaStream_t stream);

/// Starts a kernel of at most `blocks` blocks that reads `bytes` of device memory, a multiple of 16, and keeps nothing.
/// `sink` is a word of device memory. Throws Error(device_lost).
void launch_read(const void* data, std::int64_t bytes, int blocks, std::uint32_t* sink, cudaStream_t stream);

}  // namespace tandem::probes
