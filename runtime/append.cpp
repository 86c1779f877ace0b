// Stage 1 and 8 of a step: new tokens enter the window, and what leaves it goes to the host tier.
#include <algorithm>
#include <span>

#include "runtime/base/error.h"
#include "runtime/committed.h"
#include "runtime/device_tensors.h"
#include "runtime/observe_queries.h"
#include "runtime/policy_input.h"
#include "runtime/request_check.h"
#include "runtime/runtime.h"

namespace tandem {
namespace {

void check(const AppendRequest& request, const Config& config) {
  const AttentionShape& shape = config.shape;
  float bound = std::min(kMaxMagnitude, overflow_bound(config.window.dtype, config.host_dtype));
  if (config.window.merge) bound /= 1.5f;  // entries' keys are rotated, which makes elements up to sqrt(2) larger
  const std::int64_t tokens = check_counts("num_tokens", request.sequences, request.num_tokens);
  check_finite_tensor(request.kv.k, {"k", tokens, shape.num_kv_heads, shape.head_dim_k}, bound);
  check_finite_tensor(request.kv.v, {"v", tokens, shape.num_kv_heads, shape.head_dim_v}, bound);
  if (request.q) check_finite_tensor(*request.q, {"q", tokens, shape.num_q_heads, shape.head_dim_k});
  check_policy_input(request, config);
}

std::int64_t page_bytes(const HeadState& head) { return head.window.page_rows() * head.store.layout().row_bytes; }

/// What all heads of one append call share.
struct AppendContext {
  const Config& config;
  gpu::Device& device;
  Timeline& timeline;
  std::int64_t call;  ///< its number
};

/// The oldest page of the window's rows leaves them. Without a host tier it is lost.
void release_page(HeadState& head, bool has_host_tier, gpu::Device& device, StepBuffers& buffers) {
  if (has_host_tier) {
    buffers.leaving.leave(head, device);
  } else {
    head.window.release_page(gpu::kWindowStream);
  }
}

/// Tokens, or entries, of one head on their way into its window.
struct Entering {
  SpanSubject about;
  KvView kv;
  std::int64_t head = 0;                            ///< of kv
  std::span<const float> scores = {};               ///< by token; empty: the policy takes none
  std::span<const std::int64_t> visible_from = {};  ///< by entry; empty: tokens
};

template <typename T>
std::span<T> part_of(std::span<T> whole, std::int64_t first, std::int64_t count) {
  return whole.empty() ? whole : whole.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

/// A page at most at a time.
void enter_window(HeadState& state, const Entering& entering, const AppendContext& context, StepBuffers& buffers,
                  StepStats& stats) {
  const bool has_host_tier = context.config.host_tier;
  const std::int64_t held = state.window.held() - state.window.length();
  const KvView& kv = entering.kv;
  Stopwatch watch;
  for (std::int64_t done = 0; done < kv.k.tokens;) {
    const auto slice = state.window.next_slice(kv.k.tokens - done);
    if (slice.leaves) {
      TimelineSpan span(context.timeline, "evict", entering.about);
      span.subject.rows = state.window.page_rows();
      span.subject.bytes = has_host_tier ? span.subject.rows * state.store.layout().kv_bytes : 0;
      release_page(state, has_host_tier, context.device, buffers);
      stats.trace[Stage::evict].us += watch.lap_us();
      stats.trace[Stage::evict].bytes += span.subject.bytes;
    }
    TimelineSpan span(context.timeline, "append", entering.about);
    span.subject.rows = slice.tokens;
    span.subject.bytes = slice.tokens * state.window.view().layout.kv_bytes;
    state.window.append({kv.k.slice(done, slice.tokens), kv.v.slice(done, slice.tokens)}, entering.head,
                        gpu::kWindowStream, part_of(entering.scores, done, slice.tokens),
                        part_of(entering.visible_from, done, slice.tokens));
    stats.trace[Stage::append].us += watch.lap_us();
    stats.trace[Stage::append].bytes += span.subject.bytes;
    done += slice.tokens;
  }
  if (!has_host_tier) stats.rows_dropped += held - (state.window.held() - state.window.length());
}

/// What append_tokens gets of one sequence: tokens [first, first + count) of the request.
struct AppendedTokens {
  const AppendRequest& request;
  std::uint64_t sequence;
  std::int64_t first;
  std::int64_t count;
};

std::span<const gpu::DmcDecision> decisions_of(const AppendedTokens& tokens, std::size_t head,
                                               const StepBuffers& buffers) {
  const auto all = static_cast<std::size_t>(tokens.request.kv.k.tokens);
  return {buffers.decisions.data() + head * all + static_cast<std::size_t>(tokens.first),
          static_cast<std::size_t>(tokens.count)};
}

/// Room for what append_tokens adds to one of `heads` heads, whose pages leave at the same time: all that can fail.
void reserve(HeadState& head, std::int64_t heads, std::int64_t entering, bool has_host_tier, StepBuffers& buffers) {
  head.window.reserve(entering);
  if (!has_host_tier) return;
  const std::int64_t leaving = head.window.leaving_for(entering);
  head.store.reserve(leaving);
  buffers.leaving.reserve(page_bytes(head), heads * (leaving / head.window.page_rows()));
}

void reserve(LayerState& layer, const AppendedTokens& tokens, const Config& config, StepBuffers& buffers) {
  if (tokens.request.keep != nullptr) buffers.scores.reserve(static_cast<std::size_t>(tokens.count));
  std::int64_t most = 0;
  for (std::size_t h = 0; h < layer.heads.size(); ++h) {
    HeadState& head = layer.heads[h];
    const std::int64_t entering = head.merged ? head.merged->closing(decisions_of(tokens, h, buffers)) : tokens.count;
    reserve(head, static_cast<std::int64_t>(layer.heads.size()), entering, config.host_tier, buffers);
    most = std::max(most, head.window.length() + entering);
    if (!head.merged) continue;
    head.merged->reserve(tokens.count);
    buffers.closed.reserve(tokens.count + 1, head.window.view().layout);
  }
  if (!config.window.common_length) return;
  for (HeadState& head : layer.heads) head.window.reserve(most - head.window.length());
}

void append_tokens(LayerState& layer, const AppendedTokens& tokens, const AppendContext& context, StepBuffers& buffers,
                   StepStats& stats) {
  const auto heads = static_cast<std::int64_t>(layer.heads.size());
  const KvView kv{tokens.request.kv.k.slice(tokens.first, tokens.count),
                  tokens.request.kv.v.slice(tokens.first, tokens.count)};
  for (std::int64_t h = 0; h < heads; ++h) {
    HeadState& head = layer.heads[static_cast<std::size_t>(h)];
    const SpanSubject about{.call = context.call,
                            .sequence = static_cast<std::int64_t>(tokens.sequence),
                            .layer = tokens.request.layer,
                            .kv_head = h};
    Entering entering{about, kv, h};
    if (head.merged) {
      head.merged->append(kv, h, decisions_of(tokens, static_cast<std::size_t>(h), buffers), buffers.closed);
      entering = {about, buffers.closed.view(head.window.view().layout), 0, {}, buffers.closed.visible_from};
    }
    if (tokens.request.keep != nullptr) {
      buffers.scores.clear();
      for (std::int64_t t = 0; t < tokens.count; ++t)
        buffers.scores.push_back(tokens.request.keep[(tokens.first + t) * heads + h]);
      entering.scores = buffers.scores;
    }
    enter_window(head, entering, context, buffers, stats);
  }
}

}  // namespace

StepStats Runtime::append_open(const AppendRequest& given, std::int64_t call) {
  TimelineSpan span(timeline_, "td_append", {.call = call, .layer = given.layer});
  Stopwatch watch;
  check_layer(given.layer);
  const LeasePool<StepBuffers>::Lease buffers(step_buffers_);
  const AppendRequest request = on_host(given, config_.shape, *device_, *buffers);
  check(request, config_);
  find(request.sequences, buffers->sequences);
  const SequenceLock sequences(buffers->sequences);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::int64_t length = sequences[i].layer(request.layer).length();
    TANDEM_CHECK(length + request.num_tokens[i] <= config_.max_tokens, invalid_argument, "num_tokens[", i, "] is ",
                 request.num_tokens[i], "; sequence ", sequences[i].id(), " holds ", length, " tokens in layer ",
                 request.layer, " and max_tokens is ", config_.max_tokens);
  }
  decide(request, config_, buffers->decisions);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {  // everything that can fail, before anything changes
    LayerState& layer = sequences[i].layer(request.layer);
    reserve(layer, {request, sequences[i].id(), first, request.num_tokens[i]}, config_, *buffers);
    if (request.q) reserve_observed(layer, config_.shape, *buffers);
    first += request.num_tokens[i];
  }
  const AppendContext context{config_, *device_, timeline_, call};
  StepStats stats;
  committed([&] {
    first = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const std::int64_t n = request.num_tokens[i];
      LayerState& layer = sequences[i].layer(request.layer);
      append_tokens(layer, {request, sequences[i].id(), first, n}, context, *buffers, stats);
      if (request.q && !takes_neurons(config_)) {
        observe_queries(*request.q, first, n, config_.shape, layer, layer.length(), *buffers);
      }
      first += n;
    }
    Stopwatch arriving;
    buffers->leaving.arrive(*device_);
    stats.trace[Stage::evict].us += arriving.lap_us();
  });
  stats.total_us = watch.lap_us();
  span.subject.rows = request.kv.k.tokens;
  span.subject.bytes = stats.trace.bytes();
  return stats;
}

}  // namespace tandem
