#include "tools/ggml/runtimes.h"

#include "ggml.h"
#include "tools/ggml/cache_tensor.h"
#include "tools/ggml/log.h"

namespace tandem::ggml {

td::Runtime Runtimes::make(const Shape& shape, int engine_threads) const {
  auto selector = td::make<td_selector>();
  selector.kind = settings_.selector;
  // The library refuses what a kind has no use for; the variables have defaults that only some kinds read.
  const bool meets_error = settings_.selector == TD_SELECT_SKETCH && settings_.error > 0;
  if (meets_error) selector.error = settings_.error;
  if (!meets_error && (settings_.selector == TD_SELECT_SKETCH || settings_.selector == TD_SELECT_TOP_K))
    selector.budget = settings_.budget;
  auto config = td::make<td_config>();
  config.num_layers = kMaxCacheLayers;  // unused layers cost nothing: there are no sequences
  config.num_q_heads = static_cast<std::int32_t>(shape.num_q_heads);
  config.num_kv_heads = static_cast<std::int32_t>(shape.num_kv_heads);
  config.head_dim_k = static_cast<std::int32_t>(shape.head_dim_k);
  config.head_dim_v = static_cast<std::int32_t>(shape.head_dim_v);
  config.scale = shape.scale;
  config.softcap = shape.softcap;
  config.sink_tokens = settings_.sinks;
  config.local_tokens = settings_.local;
  config.num_threads = settings_.threads != 0 ? settings_.threads : engine_threads;
  config.selector = &selector;
  config.never_slower = settings_.never_slower ? TD_ON : TD_OFF;
  td::Runtime runtime(config);
  log(LogLevel::info, "runtime: " + runtime.describe());
  return runtime;
}

const td::Runtime& Runtimes::runtime_for(const AttentionOp& op, int engine_threads) {
  const Shape shape{op.num_q_heads(), op.num_kv_heads(), op.k->ne[0], op.v->ne[0], op.scale, op.softcap};
  for (const Entry& entry : entries_)
    if (entry.shape == shape) return entry.runtime;
  entries_.push_back({shape, make(shape, engine_threads)});
  return entries_.back().runtime;
}

}  // namespace tandem::ggml
