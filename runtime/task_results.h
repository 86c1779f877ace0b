#pragma once

#include <cstdint>

#include "runtime/base/partial.h"
#include "runtime/base/shape.h"
#include "runtime/requests.h"

namespace tandem {

/// The query vectors of one token and KV head, scaled: (group_size, padded_k), whose padding is left alone.
void load_group(const TensorView& q, std::int64_t row, std::int64_t head, const AttentionShape& shape,
                float* vectors) noexcept;

/// Writes one token's results of one KV head, (group_size, head_dim_v), to the caller's out and lse.
void write_group(const AttendRequest& request, const AttentionShape& shape, std::int64_t row, std::int64_t head,
                 ConstPartialAttention result);

}  // namespace tandem
