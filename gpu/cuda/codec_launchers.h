#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "cpu/codec/block_format.h"
#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {

struct DecodeItem;
struct EncodeItem;

// Kernels of coded blocks, see cpu/codec. `format` is that of a codec with pointers to device memory: items of one
// launch share its kind and dimensions. Otherwise as in launchers.h. Throws Error(unsupported) naming what there is for
// a format without kernels.

/// Encodes `num_items` blocks: the bytes of BlockCodec::encode, up to what differs in the last bit of a sine.
void launch_encode(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items,
                   cudaStream_t stream);
/// What rows of blocks stand for, as BlockCodec::decode.
void launch_decode(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items,
                   cudaStream_t stream);

/// Query vectors that one item of work over coded tokens has at most, for jobs of up to `num_vectors`.
constexpr std::int32_t coded_vectors_per_item(std::int32_t num_vectors) noexcept {
  return num_vectors <= 1 ? 1 : num_vectors <= 4 ? 4 : 8;
}

/// Split-KV attention over coded tokens; decoding is part of it. `vectors` is what coded_vectors_per_item() says.
void launch_coded_attention(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs,
                            const WorkItem* items, std::int64_t num_items, Partials partials, cudaStream_t stream);

/// Floats of CodedJob::prepared per query vector; 0: the codec's kernels take queries as they are.
std::int32_t prepared_dim(const cpu::BlockFormat& format);
/// Fills (num_vectors, prepared_dim) of `num_jobs` jobs, whose `prepared` points to room for it.
void launch_prepare_queries(const cpu::BlockFormat& format, const CodedJob* jobs, std::int64_t num_jobs,
                            std::int32_t most_vectors, cudaStream_t stream);

}  // namespace tandem::gpu::cuda
