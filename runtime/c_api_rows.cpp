// The C ABI of borrowed rows. Nothing but translation happens here.
#include "runtime/c_api_guard.h"
#include "runtime/c_api_handle.h"
#include "runtime/c_api_structs.h"
#include "runtime/c_api_views.h"

namespace tandem {
namespace {

Visibility visibility_of(const td_visibility* given) {
  const td_visibility v = read_struct("visible", given);
  TANDEM_CHECK(v.kind >= TD_VISIBLE_MASK && v.kind <= TD_VISIBLE_BLOCKS, invalid_argument, "visible.kind is ", v.kind,
               "; allowed: 0 (TD_VISIBLE_MASK), 1 (TD_VISIBLE_ROWS), 2 (TD_VISIBLE_BLOCKS)");
  TANDEM_CHECK(v.num_queries >= 1, invalid_argument, "visible.num_queries is ", v.num_queries,
               "; at least one query is needed");
  TANDEM_CHECK(v.mask_stride >= 0 && v.block_stride >= 0, invalid_argument, "visible.mask_stride is ", v.mask_stride,
               " and block_stride ", v.block_stride, "; neither may be negative");
  Visibility result;
  result.kind = static_cast<Visibility::Kind>(v.kind);
  result.num_queries = v.num_queries;
  result.mask = v.mask;
  result.mask_stride = v.mask_stride;
  result.num_columns = v.num_columns;
  result.first_row = v.first_row;
  result.rows = v.rows;
  result.row_begin = v.row_begin;
  result.blocks = v.blocks;
  result.block_stride = v.block_stride;
  result.block_size = v.block_size;
  result.num_tokens = v.num_tokens;
  return result;
}

std::span<const std::int64_t> rows_of(const std::int64_t* rows, std::int64_t num_rows) {
  TANDEM_CHECK(num_rows >= 0, invalid_argument, "num_rows is ", num_rows, "; it must not be negative");
  if (num_rows == 0) return {};
  return {not_null("rows", rows), static_cast<std::size_t>(num_rows)};
}

/// What a call does once its structs have been read.
auto attend_rows_call(td_rt* rt, const td_attend_rows_args* args) {
  const td_attend_rows_args a = read_struct("args", args);
  check_stats(a.stats);
  AttendRowsRequest request;
  request.pool = a.pool;
  request.exact = a.exact != 0;
  request.visible = visibility_of(a.visible);
  request.q = const_view_of("q", a.q);
  request.out = view_of("out", a.out);
  request.lse = a.lse;
  request.error = a.error;
  request.certified = a.certified;
  request.sink_logits = a.sinks;
  request.bias_factors = a.alibi;
  Runtime& runtime = not_null("rt", rt)->runtime;
  return [&runtime, request, stats = a.stats] {
    write_stats(runtime.attend_rows(request), runtime.workers().num_workers(), stats);
  };
}

}  // namespace
}  // namespace tandem

using tandem::guarded;
using tandem::not_null;

extern "C" {

td_status td_pool_bind(td_rt* rt, const td_pool_args* args, td_pool* out) {
  return guarded([&] {
    const td_pool_args a = tandem::read_struct("args", args);
    not_null("out", out);
    TANDEM_CHECK(a.probes >= -1, invalid_argument, "probes is ", a.probes,
                 "; allowed: -1 (nothing is compared), 0 (the default: 4) or more");
    const tandem::KvView rows{tandem::rows_view_of("k", a.k), tandem::rows_view_of("v", a.v)};
    *out = not_null("rt", rt)->runtime.bind_pool(a.layer, rows, a.probes == 0 ? 4 : a.probes);
  });
}

td_status td_pool_unbind(td_rt* rt, td_pool pool) {
  return guarded([&] { not_null("rt", rt)->runtime.unbind_pool(pool); });
}

td_status td_rows_written(td_rt* rt, td_pool pool, const int64_t* rows, int64_t num_rows) {
  return guarded([&] { not_null("rt", rt)->runtime.rows_written(pool, tandem::rows_of(rows, num_rows)); });
}

td_status td_rows_dropped(td_rt* rt, td_pool pool, const int64_t* rows, int64_t num_rows) {
  return guarded([&] {
    tandem::Runtime& runtime = not_null("rt", rt)->runtime;
    if (num_rows == -1) return runtime.forget_rows(pool);
    runtime.rows_written(pool, tandem::rows_of(rows, num_rows));
  });
}

td_status td_rows_verify(td_rt* rt, td_pool pool, int64_t* stale) {
  return guarded([&] {
    const std::int64_t count = not_null("rt", rt)->runtime.verify_rows(pool);
    if (stale != nullptr) *stale = count;
  });
}

td_status td_pool_query(td_rt* rt, td_pool pool, td_pool_info* info) {
  return guarded([&] {
    TANDEM_CHECK(not_null("info", info)->size >= sizeof(info->size), invalid_argument, "info.size is ", info->size,
                 "; set it with TD_INIT");
    const tandem::PoolInfo state = not_null("rt", rt)->runtime.query_pool(pool);
    td_pool_info result{};
    result.num_lists = static_cast<std::int32_t>(state.num_lists);
    result.indexed_rows = state.indexed_rows;
    result.index_bytes = state.index_bytes;
    result.rows_reindexed = state.rows_reindexed;
    result.rows_found = state.rows_found;
    tandem::write_struct(result, info);
  });
}

td_status td_attend_rows(td_rt* rt, const td_attend_rows_args* args) {
  return guarded([&] { tandem::attend_rows_call(rt, args)(); });
}

td_status td_attend_rows_begin(td_rt* rt, const td_attend_rows_args* args, td_call* out) {
  return guarded([&] {
    not_null("out", out);
    *out = not_null("rt", rt)->begun.begin(tandem::attend_rows_call(rt, args));
  });
}

}  // extern "C"
