#include "tools/ggml/attention.h"

#include <string>

#include "ggml.h"
#include "tandem/tandem.hpp"
#include "tools/ggml/cache_tensor.h"
#include "tools/ggml/cache_write.h"
#include "tools/ggml/log.h"
#include "tools/ggml/rounded_queries.h"
#include "tools/ggml/totals.h"

namespace tandem::ggml {
namespace {

/// The results of all queries: ggml's out is dense.
td_tensor results(const AttentionOp& op) {
  return td::tensor(op.out->data, TD_F32, op.num_queries(), op.num_q_heads(), op.out->ne[0]);
}

/// Those of the queries [first, first + count) of a dense tensor.
td_tensor queries_from(const td_tensor& all, std::int64_t first, std::int64_t count) {
  td_tensor part = all;
  part.data = static_cast<float*>(all.data) + first * all.shape[1] * all.shape[2];
  part.shape[0] = count;
  return part;
}

void set_slopes(const AttentionOp& op, std::vector<float>& slopes) {
  slopes.clear();
  for (std::int64_t head = 0; op.max_bias > 0 && head < op.num_q_heads(); ++head)
    slopes.push_back(alibi_slope(op.max_bias, op.num_q_heads(), head));
}

}  // namespace

void Attention::call(const td::Runtime& runtime, td_attend_rows_args& args) {
  auto stats = td::make<td_stats>();
  if (settings_.stats) args.stats = &stats;
  td_status status = td_attend_rows(runtime.get(), &args);
  const bool retried = status != TD_OK && args.exact == 0;
  if (retried) {
    log(LogLevel::warning, std::string("computed exactly, because of: ") + td_last_error());
    args.exact = 1;
    status = td_attend_rows(runtime.get(), &args);
  }
  td::check(status);
  if (settings_.stats) totals().add_call(stats, args.visible->num_queries, retried);
}

void Attention::attend(const AttentionOp& op) {
  const td::Runtime& runtime = runtimes_.runtime_for(op, engine_threads_);
  set_slopes(op, slopes_);
  const td_tensor q = round_queries(op, queries_);
  const td_tensor out = results(op);
  auto args = td::make<td_attend_rows_args>();
  args.sinks = op.sinks == nullptr ? nullptr : static_cast<const float*>(op.sinks->data);
  args.alibi = slopes_.empty() ? nullptr : slopes_.data();
  if (reads_cache(op)) {
    args.pool = pools_.pool_for(runtime, op);
    args.visible = &visible_.of_cache(op, order_of(op));
    args.q = q;
    args.out = out;
    call(runtime, args);
    if (settings_.stats) pools_.count(args.pool);
    return;
  }
  for (std::int64_t stream = 0; stream < op.streams(); ++stream) {
    const td::Pool pool(runtime, pool_of_stream(op, stream));
    args.exact = 1;
    args.pool = pool.id();
    args.visible = &visible_.of_stream(op, stream);
    args.q = queries_from(q, stream * op.tokens(), op.tokens());
    args.out = queries_from(out, stream * op.tokens(), op.tokens());
    call(runtime, args);
  }
}

WriteOrder* Attention::order_of(const AttentionOp& op) {
  const ggml_tensor& root = *root_of(op.k);
  const auto found = orders_.find(root.data);
  return found == orders_.end() || found->second.num_rows() != cache_rows(root) ? nullptr : &found->second;
}

void Attention::write(const ggml_tensor& op) {
  write_cache(op, written_);
  const ggml_tensor& root = *root_of(&op);
  if (cache_kind(root) != CacheKind::k) return;  // the rows of V are written whenever those of K are
  auto order = orders_.try_emplace(root.data, cache_rows(root), root.ne[1]).first;
  if (order->second.num_rows() != cache_rows(root)) order->second = WriteOrder(cache_rows(root), root.ne[1]);
  order->second.written(written_);
  pools_.written(root.data, written_);
}

}  // namespace tandem::ggml
