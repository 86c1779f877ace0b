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

// Codec qjl of codec_launchers.h: as there, of at least one item.

void encode_qjl(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items, cudaStream_t stream);
void decode_qjl(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items, cudaStream_t stream);
void attend_qjl(std::int32_t vectors, const CodedJob* jobs, const WorkItem* items, std::int64_t num_items,
                Partials partials, cudaStream_t stream);

/// `prepared` is aligned to 8 bytes.
std::int32_t prepared_dim_qjl(const cpu::BlockFormat& format);
void prepare_queries_qjl(const cpu::BlockFormat& format, const CodedJob* jobs, std::int64_t num_jobs,
                         std::int32_t most_vectors, cudaStream_t stream);

}  // namespace tandem::gpu::cuda
