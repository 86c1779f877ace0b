#include "tools/ggml/pools.h"

#include <algorithm>

#include "ggml.h"
#include "tools/ggml/cache_tensor.h"
#include "tools/ggml/formats.h"
#include "tools/ggml/rewritten_caches.h"
#include "tools/ggml/totals.h"

namespace tandem::ggml {
namespace {

/// Rows of `view` as a tensor of Tandem, from `data` on.
td_tensor rows_of(const ggml_tensor& view, void* data, std::int64_t rows) {
  return {data,
          {rows, view.ne[2], view.ne[0]},
          {static_cast<std::int64_t>(view.nb[1]), static_cast<std::int64_t>(view.nb[2])},
          *row_format(view.type),
          TD_MEMORY_HOST};
}

bool is_same(const td_tensor& a, const td_tensor& b) {
  return a.data == b.data && std::equal(a.shape, a.shape + 3, b.shape) &&
         std::equal(a.stride, a.stride + 2, b.stride) && a.dtype == b.dtype;
}

td_pool_args pool_of_cache(const AttentionOp& op, int probes) {
  const ggml_tensor& root = *root_of(op.k);
  auto args = td::make<td_pool_args>();
  args.layer = cache_layer(root);
  args.k = rows_of(*op.k, root.data, cache_rows(root));
  args.v = rows_of(*op.v, root_of(op.v)->data, cache_rows(root));
  args.probes = probes;
  return args;
}

bool do_overlap(const td_tensor& a, const td_tensor& b) {
  const auto* a_begin = static_cast<const char*>(a.data);
  const auto* b_begin = static_cast<const char*>(b.data);
  return a_begin < b_begin + b.shape[0] * b.stride[0] && b_begin < a_begin + a.shape[0] * a.stride[0];
}

}  // namespace

td_pool_args pool_of_stream(const AttentionOp& op, std::int64_t stream) {
  const auto of_stream = [stream](const ggml_tensor& tensor) {
    return static_cast<char*>(tensor.data) + stream * static_cast<std::int64_t>(tensor.nb[3]);
  };
  auto args = td::make<td_pool_args>();
  args.k = rows_of(*op.k, of_stream(*op.k), op.columns());
  args.v = rows_of(*op.v, of_stream(*op.v), op.columns());
  args.probes = -1;  // exact attention, once
  return args;
}

CachePools::Entry& CachePools::entry_for(const td::Runtime& runtime, const AttentionOp& op) {
  const td_rt* rt = runtime.get();
  const td_pool_args args = pool_of_cache(op, settings_.probes);
  for (Entry& entry : entries_)
    if (entry.rt == rt && is_same(entry.args.k, args.k) && is_same(entry.args.v, args.v)) return entry;
  // The engine has freed a cache when another one lies in its memory. Two runtimes may read the same one.
  std::erase_if(entries_, [&](const Entry& entry) {
    return do_overlap(entry.args.k, args.k) && !(entry.rt != rt && is_same(entry.args.k, args.k));
  });
  entries_.push_back({rt, args, cache_rewrites(), td::make<td_pool_info>(), td::Pool(runtime, args)});
  return entries_.back();
}

td_pool CachePools::pool_for(const td::Runtime& runtime, const AttentionOp& op) {
  Entry& entry = entry_for(runtime, op);
  const std::uint64_t rewrites = cache_rewrites();
  if (entry.rewrites != rewrites) {
    entry.pool.verify();
    entry.rewrites = rewrites;
  }
  return entry.pool.id();
}

void CachePools::written(const void* root, std::span<const std::int64_t> rows) {
  for (const Entry& entry : entries_)
    if (entry.args.k.data == root) entry.pool.written(rows.data(), static_cast<std::int64_t>(rows.size()));
}

void CachePools::count(td_pool pool) {
  for (Entry& entry : entries_) {
    if (entry.pool.id() != pool) continue;
    const td_pool_info now = entry.pool.info();
    totals().add_change(entry.counted, now);
    entry.counted = now;
  }
}

}  // namespace tandem::ggml
