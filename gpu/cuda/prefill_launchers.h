#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "gpu/cuda/launchers.h"

namespace tandem::gpu::cuda {

struct PrefillRows;
struct PrefillStates;
struct Queries;

// As those of launchers.h.

/// Joins the attention over a piece of rows to the states of the query vectors; of the first piece states are written
/// only. Padded dimensions up to kMaxKernelDim.
void launch_prefill_attention(RowType type, const PrefillRows& rows, const Queries& queries,
                              const PrefillStates& states, bool is_first, cudaStream_t stream);

/// Attention of all query vectors from their states: `results` has a row for each.
void launch_merge_prefill_states(const PrefillStates& states, std::int32_t padded_v, std::int32_t dim_v,
                                 Partials results, cudaStream_t stream);

}  // namespace tandem::gpu::cuda
