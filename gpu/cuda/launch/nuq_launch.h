#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "cpu/codec/block_format.h"

namespace tandem::gpu::cuda {

struct CodedJob;
struct DecodeItem;
struct EncodeItem;
struct Partials;
struct WorkItem;

// Codec nuq of codec_launchers.h: as there, of at least one item.

/// The host's bytes, but where the last bit of an angle's cosine or sine makes an element another float: the code, the
/// residual or the choice of outliers may then differ where two of them are as near.
void encode_nuq(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items, cudaStream_t stream);
void decode_nuq(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items, cudaStream_t stream);
void attend_nuq(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs, const WorkItem* items,
                std::int64_t num_items, Partials partials, cudaStream_t stream);

}  // namespace tandem::gpu::cuda
