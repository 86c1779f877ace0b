// The C ABI of runtimes, sequences and steps: structs in, Runtime calls, Errors to statuses. Nothing but translation
// happens here.
#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "runtime/base/error.h"
#include "runtime/base/log.h"
#include "runtime/c_api_config.h"
#include "runtime/c_api_describe.h"
#include "runtime/c_api_guard.h"
#include "runtime/c_api_handle.h"
#include "runtime/c_api_structs.h"
#include "runtime/c_api_views.h"
#include "tandem/tandem.h"

namespace tandem {
namespace {

std::span<const std::uint64_t> sequences_of(const td_seq* seqs, std::int32_t num_seqs) {
  TANDEM_CHECK(num_seqs >= 1, invalid_argument, "num_seqs is ", num_seqs, "; at least one sequence is needed");
  return {not_null("seqs", seqs), static_cast<std::size_t>(num_seqs)};
}

AttendRequest attend_request_of(const td_attend_args& a) {
  constexpr int kKnown = TD_PART_ALL | TD_EXACT;
  TANDEM_CHECK((a.parts & ~kKnown) == 0 && (a.parts & TD_PART_ALL) != 0, invalid_argument, "parts is ", a.parts,
               "; allowed: TD_PART_STATIC (1), TD_PART_DYNAMIC (2) or both, with or without TD_EXACT (4)");
  AttendRequest request;
  request.layer = a.layer;
  request.use_window = (a.parts & TD_PART_STATIC) != 0;
  request.use_host = (a.parts & TD_PART_DYNAMIC) != 0;
  request.exact = (a.parts & TD_EXACT) != 0;
  request.sequences = sequences_of(a.seqs, a.num_seqs);
  request.num_queries = {not_null("num_queries", a.num_queries), static_cast<std::size_t>(a.num_seqs)};
  request.q = const_view_of("q", a.q);
  request.out = view_of("out", a.out);
  request.lse = a.lse;
  request.error = a.error;
  request.certified = a.certified;
  request.sink_logits = a.sinks;
  request.alibi = a.alibi;
  request.sliding_window = a.sliding_window;
  request.stream = {a.stream};
  return request;
}

/// What a call does once its struct has been read.
auto append_call(td_rt* rt, const td_append_args* args) {
  const td_append_args a = read_struct("args", args);
  check_stats(a.stats);
  AppendRequest request;
  request.layer = a.layer;
  request.sequences = sequences_of(a.seqs, a.num_seqs);
  request.num_tokens = {not_null("num_tokens", a.num_tokens), static_cast<std::size_t>(a.num_seqs)};
  request.kv = {const_view_of("k", a.k), const_view_of("v", a.v)};
  if (a.q.data != nullptr) request.q = const_view_of("q", a.q);
  request.keep = a.keep;
  request.merge = a.merge;
  request.importance = a.importance;
  request.stream = {a.stream};
  Runtime& runtime = not_null("rt", rt)->runtime;
  return [&runtime, request, stats = a.stats] {
    write_stats(runtime.append(request), runtime.workers().num_workers(), stats);
  };
}

auto attend_call(td_rt* rt, const td_attend_args* args) {
  const td_attend_args a = read_struct("args", args);
  check_stats(a.stats);
  Runtime& runtime = not_null("rt", rt)->runtime;
  return [&runtime, request = attend_request_of(a), stats = a.stats] {
    write_stats(runtime.attend(request), runtime.workers().num_workers(), stats);
  };
}

}  // namespace
}  // namespace tandem

using tandem::guarded;
using tandem::not_null;

extern "C" {

int td_abi_version(void) { return TANDEM_ABI; }
const char* td_version(void) { return TANDEM_VERSION; }
const char* td_last_error(void) { return tandem::last_error(); }

const char* td_status_name(td_status status) {
  switch (status) {
    case TD_OK:
      return "ok";
    case TD_EINVAL:
      return "invalid argument";
    case TD_ENOMEM:
      return "out of memory";
    case TD_EUNSUPPORTED:
      return "unsupported";
    case TD_EDEVICE:
      return "device lost";
    case TD_ESTATE:
      return "invalid state";
    case TD_EIO:
      return "io";
    case TD_EINTERNAL:
      return "internal";
  }
  return "unknown";
}

td_status td_create(const td_config* config, td_rt** out) {
  return guarded([&] {
    not_null("out", out);
    *out = new td_rt{tandem::Runtime(tandem::config_of(config))};
  });
}

td_status td_create_json(const char* json, td_rt** out) {
  return guarded([&] {
    not_null("out", out);
    *out = new td_rt{tandem::Runtime(tandem::config_from_json(not_null("json", json)))};
  });
}

void td_destroy(td_rt* rt) { delete rt; }

td_status td_describe(const td_rt* rt, char* buffer, size_t capacity, size_t* needed) {
  return guarded([&] {
    const std::string text = tandem::describe(not_null("rt", rt)->runtime);
    *not_null("needed", needed) = text.size() + 1;
    if (capacity == 0) return;
    const std::size_t copied = std::min(capacity - 1, text.size());
    std::memcpy(not_null("buffer", buffer), text.data(), copied);
    buffer[copied] = '\0';
  });
}

td_status td_seq_create(td_rt* rt, td_seq* out) {
  return guarded([&] {
    not_null("out", out);
    *out = not_null("rt", rt)->runtime.create_sequence();
  });
}

td_status td_seq_destroy(td_rt* rt, td_seq seq) {
  return guarded([&] { not_null("rt", rt)->runtime.destroy_sequence(seq); });
}

td_status td_seq_fork(td_rt* rt, td_seq src, int64_t num_tokens, const td_selector* selector, td_seq* out) {
  return guarded([&] {
    not_null("out", out);
    std::optional<tandem::lsh::SelectorParams> params;
    if (selector != nullptr) params = tandem::selector_of(selector);
    *out = not_null("rt", rt)->runtime.fork_sequence(src, num_tokens, params);
  });
}

td_status td_seq_truncate(td_rt* rt, td_seq seq, int64_t num_tokens) {
  return guarded([&] { not_null("rt", rt)->runtime.truncate_sequence(seq, num_tokens); });
}

td_status td_seq_evict(td_rt* rt, td_seq seq, int64_t first, int64_t num_tokens) {
  return guarded([&] { not_null("rt", rt)->runtime.evict_tokens(seq, first, num_tokens); });
}

td_status td_seq_length(td_rt* rt, td_seq seq, int32_t layer, int64_t* out) {
  return guarded([&] {
    not_null("out", out);
    *out = not_null("rt", rt)->runtime.query_sequence(seq, layer).length;
  });
}

td_status td_seq_query(td_rt* rt, td_seq seq, int32_t layer, td_seq_info* info) {
  return guarded([&] {
    TANDEM_CHECK(not_null("info", info)->size >= sizeof(info->size), invalid_argument, "info.size is ", info->size,
                 "; set it with TD_INIT");
    const tandem::SequenceInfo state = not_null("rt", rt)->runtime.query_sequence(seq, layer);
    td_seq_info result{};
    result.length = state.length;
    result.window_rows = state.window_rows;
    result.host_rows = state.host_rows;
    result.kv_bytes = state.kv_bytes;
    result.index_bytes = state.index_bytes;
    result.index_build_us = state.index_us;
    result.coded_rows = state.coded_rows;
    result.dropped_rows = state.dropped_rows;
    result.window_bytes = state.window_bytes;
    result.window_entries = state.window_entries;
    tandem::write_struct(result, info);
  });
}

td_status td_append(td_rt* rt, const td_append_args* args) {
  return guarded([&] { tandem::append_call(rt, args)(); });
}

td_status td_attend(td_rt* rt, const td_attend_args* args) {
  return guarded([&] { tandem::attend_call(rt, args)(); });
}

td_status td_append_begin(td_rt* rt, const td_append_args* args, td_call* out) {
  return guarded([&] {
    not_null("out", out);
    *out = not_null("rt", rt)->begun.begin(tandem::append_call(rt, args));
  });
}

td_status td_attend_begin(td_rt* rt, const td_attend_args* args, td_call* out) {
  return guarded([&] {
    not_null("out", out);
    *out = not_null("rt", rt)->begun.begin(tandem::attend_call(rt, args));
  });
}

td_status td_call_wait(td_rt* rt, td_call call) {
  return guarded([&] { not_null("rt", rt)->begun.wait(call); });
}

td_status td_call_test(td_rt* rt, td_call call, int32_t* ended) {
  return guarded([&] {
    not_null("ended", ended);
    *ended = not_null("rt", rt)->begun.has_ended(call) ? 1 : 0;
  });
}

td_status td_timeline_start(td_rt* rt, const char* path, int64_t max_spans) {
  return guarded([&] { not_null("rt", rt)->runtime.start_timeline(not_null("path", path), max_spans); });
}

td_status td_timeline_stop(td_rt* rt) {
  return guarded([&] { not_null("rt", rt)->runtime.stop_timeline(); });
}

void td_set_log(td_log_fn hook, void* user) {
  if (hook == nullptr) {
    tandem::set_log_hook({});
    return;
  }
  tandem::set_log_hook([hook, user](tandem::LogLevel level, const std::string& message) {
    hook(static_cast<int>(level), message.c_str(), user);
  });
}

}  // extern "C"
