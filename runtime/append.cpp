// Stage 1 and 8 of a step: new tokens enter the window, and what leaves it goes to the host tier.
#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/observe_queries.h"
#include "runtime/request_check.h"
#include "runtime/runtime.h"

namespace tandem {
namespace {

void check(const AppendRequest& request, const Config& config) {
  const AttentionShape& shape = config.shape;
  const float bound = std::min(kMaxMagnitude, overflow_bound(config.window.dtype, config.host_dtype));
  const std::int64_t tokens = check_counts("num_tokens", request.sequences, request.num_tokens);
  check_finite_tensor(request.kv.k, {"k", tokens, shape.num_kv_heads, shape.head_dim_k}, bound);
  check_finite_tensor(request.kv.v, {"v", tokens, shape.num_kv_heads, shape.head_dim_v}, bound);
  if (request.q) check_finite_tensor(*request.q, {"q", tokens, shape.num_q_heads, shape.head_dim_k});
}

/// The oldest page of the window moves to the stores; it leaves the window only after every store has its rows.
void evict_page(LayerState& layer, StepBuffers& buffers) {
  const cpu::RowLayout& host_layout = layer.heads.front().store.layout();
  buffers.evicted.resize(layer.heads.size() * static_cast<std::size_t>(host_layout.page_bytes()));
  layer.window.read_oldest_page(host_layout, buffers.evicted.data(), gpu::kWindowStream);
  const std::byte* page = buffers.evicted.data();
  for (HeadState& head : layer.heads) {
    head.store.append(page, cpu::kPageRows);
    page += host_layout.page_bytes();
  }
  layer.window.drop_oldest_page();
}

void append_tokens(LayerState& layer, const KvView& kv, gpu::Device& device, StepBuffers& buffers, StageTrace& trace) {
  const auto heads = static_cast<std::int64_t>(layer.heads.size());
  Stopwatch watch;
  for (std::int64_t done = 0; done < kv.k.tokens;) {
    const auto slice = layer.window.next_slice(kv.k.tokens - done);
    if (slice.evicts) {
      evict_page(layer, buffers);
      trace[Stage::evict].us += watch.lap_us();
      trace[Stage::evict].bytes += heads * cpu::kPageRows * layer.heads[0].store.layout().kv_bytes;
    }
    layer.window.append({kv.k.slice(done, slice.tokens), kv.v.slice(done, slice.tokens)}, gpu::kWindowStream);
    trace[Stage::append].us += watch.lap_us();
    trace[Stage::append].bytes += heads * slice.tokens * layer.window.view(0).layout.kv_bytes;
    done += slice.tokens;
  }
  device.wait(gpu::kWindowStream);  // k and v are the caller's again when append returns
}

}  // namespace

StepStats Runtime::append_open(const AppendRequest& request) {
  Stopwatch watch;
  check_layer(request.layer);
  check(request, config_);
  const LeasePool<StepBuffers>::Lease buffers(step_buffers_);
  find(request.sequences, buffers->sequences);
  const SequenceLock sequences(buffers->sequences);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::int64_t length = sequences[i].layer(request.layer).length();
    TANDEM_CHECK(length + request.num_tokens[i] <= config_.max_tokens, invalid_argument, "num_tokens[", i, "] is ",
                 request.num_tokens[i], "; sequence ", sequences[i].id(), " holds ", length, " tokens in layer ",
                 request.layer, " and max_tokens is ", config_.max_tokens);
  }
  for (std::size_t i = 0; i < sequences.size(); ++i) {  // everything that can fail, before anything changes
    LayerState& layer = sequences[i].layer(request.layer);
    for (HeadState& head : layer.heads) head.store.reserve(layer.window.evictions_for(request.num_tokens[i]));
    if (request.q) reserve_observed(layer, config_.shape, *buffers);
  }
  buffers->evicted.reserve(static_cast<std::size_t>(config_.shape.num_kv_heads * host_layout_.page_bytes()));
  StepStats stats;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::int64_t n = request.num_tokens[i];
    append_tokens(sequences[i].layer(request.layer), {request.kv.k.slice(first, n), request.kv.v.slice(first, n)},
                  *device_, *buffers, stats.trace);
    if (request.q) {
      observe_queries(*request.q, first, n, config_.shape, sequences[i].layer(request.layer), *buffers);
    }
    first += n;
  }
  stats.total_us = watch.lap_us();
  return stats;
}

}  // namespace tandem
