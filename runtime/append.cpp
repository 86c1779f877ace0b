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

std::int64_t page_bytes(const HeadState& head) { return head.window.page_rows() * head.store.layout().row_bytes; }

/// The oldest page of the window's rows leaves them only after the store has it, and what the window then forgets is
/// published there. Without a host tier it is lost.
void release_page(HeadState& head, bool has_host_tier, gpu::Device& device, StepBuffers& buffers) {
  if (has_host_tier) {
    buffers.leaving.resize(static_cast<std::size_t>(page_bytes(head)));
    head.window.read_leaving_page(head.store.layout(), buffers.leaving.data(), gpu::kWindowStream);
    device.wait(gpu::kWindowStream);
    head.store.store(buffers.leaving.data(), head.window.page_rows());
  }
  head.window.release_page(gpu::kWindowStream);
  if (has_host_tier) head.store.publish(head.window.evicted());
}

/// Tokens of one head enter its window, a page at most at a time.
void append_tokens(HeadState& state, const KvView& kv, std::int64_t head, bool has_host_tier, gpu::Device& device,
                   StepBuffers& buffers, StepStats& stats) {
  const std::int64_t forgotten = state.window.evicted();
  Stopwatch watch;
  for (std::int64_t done = 0; done < kv.k.tokens;) {
    const auto slice = state.window.next_slice(kv.k.tokens - done);
    if (slice.leaves) {
      release_page(state, has_host_tier, device, buffers);
      stats.trace[Stage::evict].us += watch.lap_us();
      if (has_host_tier) stats.trace[Stage::evict].bytes += state.window.page_rows() * state.store.layout().kv_bytes;
    }
    state.window.append({kv.k.slice(done, slice.tokens), kv.v.slice(done, slice.tokens)}, head, gpu::kWindowStream);
    stats.trace[Stage::append].us += watch.lap_us();
    stats.trace[Stage::append].bytes += slice.tokens * state.window.view().layout.kv_bytes;
    done += slice.tokens;
  }
  if (!has_host_tier) stats.rows_dropped += state.window.evicted() - forgotten;
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
    for (HeadState& head : layer.heads) {
      if (config_.host_tier) head.store.reserve(head.window.leaving_for(request.num_tokens[i]));
      buffers->leaving.reserve(static_cast<std::size_t>(page_bytes(head)));
    }
    if (request.q) reserve_observed(layer, config_.shape, *buffers);
  }
  StepStats stats;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::int64_t n = request.num_tokens[i];
    LayerState& layer = sequences[i].layer(request.layer);
    const KvView kv{request.kv.k.slice(first, n), request.kv.v.slice(first, n)};
    for (std::size_t h = 0; h < layer.heads.size(); ++h) {
      append_tokens(layer.heads[h], kv, static_cast<std::int64_t>(h), config_.host_tier, *device_, *buffers, stats);
    }
    device_->wait(gpu::kWindowStream);  // k and v are the caller's again when append returns
    if (request.q) {
      observe_queries(*request.q, first, n, config_.shape, layer, *buffers);
    }
    first += n;
  }
  stats.total_us = watch.lap_us();
  return stats;
}

}  // namespace tandem
