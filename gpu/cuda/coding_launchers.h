#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::gpu::cuda {

struct HashCoding;
struct KeyRows;
struct SketchCoding;

// Kernels that code keys for an index, as in launchers.h: for padded_k and padded_dims up to kMaxKernelDim. `fused`:
// the host's kernels join multiplication and addition, which decides bits. Whole blocks of 64 rows are written; what
// lies beyond the rows becomes 0.

/// The bytes that SketchKernels::encode makes of the rows, in blocks of SketchFormat.
void launch_sketch_codes(const KeyRows& keys, const SketchCoding& sketch, bool fused, std::byte* blocks,
                         cudaStream_t stream);

/// The codes (blocks, num_tables, 64) that SimHash::encode makes of the rows, and (count) 1 / |k - mean|.
void launch_hash_codes(const KeyRows& keys, const HashCoding& hash, bool fused, std::uint16_t* codes,
                       float* inverse_norms, cudaStream_t stream);

}  // namespace tandem::gpu::cuda
