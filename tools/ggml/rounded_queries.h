#pragma once

#include <vector>

#include "tandem/tandem.h"
#include "tools/ggml/attention_op.h"

namespace tandem::ggml {

/// Writes the op's queries, rounded as the CPU backend rounds what it multiplies with rows of K's type (f16, bf16 or
/// q8_0), to `rounded`, dense: query stream * tokens + token. Without that, attention is more exact than the CPU
/// backend's, but greedy tokens differ now and then.
///
/// Returns the tensor (num_queries, num_q_heads, head_dim_k) of `rounded`.
td_tensor round_queries(const AttentionOp& op, std::vector<float>& rounded);

}  // namespace tandem::ggml
