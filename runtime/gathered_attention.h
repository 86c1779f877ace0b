#pragma once

#include <vector>

#include "cpu/attention_pass.h"
#include "cpu/kv_store.h"
#include "cpu/selection.h"
#include "numa/worker_pool.h"
#include "runtime/base/lease_pool.h"
#include "runtime/base/partial.h"

namespace tandem {

/// One query token of one head: what attends, over what, and who helps.
struct GatherRequest {
  const cpu::Kernels& kernels;
  const cpu::KvStore& store;
  std::int64_t first_position;  ///< of row 0
  const cpu::QueryBlock& query;
  const cpu::LogitRule& logits;
  numa::NodeWorkers workers;
  LeasePool<cpu::AttentionScratch>& scratch;
};

/// Attention over everything that was selected: gathered in parts, which idle workers share, and joined as
/// lsh::join_sampled() says. The bounds of the parts and the order in which they are added do not depend on the
/// workers.
///
/// Writes `result` and `spread` (group_size, dim_v); `memory` grows to what the parts take. Throws only when memory or
/// scratch has to grow.
void gathered_attention(const GatherRequest& request, const cpu::Selection& selection, std::vector<float>& memory,
                        PartialAttention result, cpu::SampleSpread spread);

}  // namespace tandem
