#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "gpu/cuda/codec_launchers.h"

namespace tandem::gpu::cuda {

// Codec kivi, as in codec_launchers.h; there is at least one item.

void encode_kivi(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items, cudaStream_t stream);
void decode_kivi(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items, cudaStream_t stream);
void attend_kivi(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs, const WorkItem* items,
                 std::int64_t num_items, Partials partials, cudaStream_t stream);

}  // namespace tandem::gpu::cuda
