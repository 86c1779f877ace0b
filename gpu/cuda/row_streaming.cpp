#include "gpu/cuda/row_streaming.h"

#include <algorithm>
#include <cassert>

#include "gpu/cuda/attention_plan.h"
#include "gpu/cuda/cuda_error.h"
#include "gpu/cuda/prefill_launchers.h"

namespace tandem::gpu::cuda {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kFloatBytes = sizeof(float);

constexpr std::int64_t aligned(std::int64_t bytes) noexcept {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool share_rows(const HostRowsAttention& a, const HostRowsAttention& b) noexcept {
  return a.store == b.store && a.first_position == b.first_position && a.left_out.data() == b.left_out.data() &&
         a.left_out.size() == b.left_out.size() && a.queries.group_size == b.queries.group_size &&
         a.logits.softcap == b.logits.softcap && a.logits.alibi == b.logits.alibi &&
         a.logits.sliding_window == b.logits.sliding_window;
}

}  // namespace

std::int64_t StreamingSizes::input_bytes() const noexcept {
  return aligned(query_floats * kFloatBytes) + aligned(vectors * static_cast<std::int64_t>(sizeof(QuerySpan))) +
         aligned(vectors * kFloatBytes);
}
std::int64_t StreamingSizes::output_bytes() const noexcept { return aligned((query_floats + vectors) * kFloatBytes); }
std::int64_t StreamingSizes::state_bytes() const noexcept {
  return aligned(kPrefillSplits * (query_floats + 2 * vectors) * kFloatBytes);
}
std::int64_t StreamingSizes::device_bytes() const noexcept {
  return 2 * PieceRing::slot_bytes(piece_bytes) + input_bytes() + state_bytes() + output_bytes();
}
std::int64_t StreamingSizes::host_bytes() const noexcept {
  return 2 * (PieceRing::slot_bytes(piece_bytes) + input_bytes() + output_bytes());
}

RowStreaming::RowStreaming(HandOffKind kind, const StreamingSizes& sizes)
    : sizes_(sizes),
      on_host_(StagingMemory::pinned_only(sizes.host_bytes())),
      on_device_(sizes.device_bytes()),
      done_(kind, stream_.get()),
      ring_(kind, sizes.piece_bytes, on_host_.data(), on_device_.data()) {
  const std::int64_t pieces = 2 * PieceRing::slot_bytes(sizes.piece_bytes);
  std::byte* host = on_host_.data() + pieces;
  for (Slot& slot : slots_) {
    slot.input = host;
    slot.output = host + sizes.input_bytes();
    host = slot.output + sizes.output_bytes();
  }
  input_ = on_device_.data() + pieces;
  states_ = input_ + sizes.input_bytes();
  output_ = states_ + sizes.state_bytes();
  pending_.reserve(slots_.size());
}

bool RowStreaming::takes(const cpu::RowLayout& layout) noexcept {
  const bool is_element_type = layout.dtype == DType::f32 || layout.dtype == DType::f16 || layout.dtype == DType::bf16;
  return is_element_type && std::max(layout.padded_k, layout.padded_v) <= kMaxKernelDim;
}

/// Of the first tasks of `batch`.
RowStreaming::Pass RowStreaming::next_pass(const HostRowsAttention* batch, std::int64_t count) const {
  const cpu::KvStore& store = *batch->store;
  const std::int64_t dim = std::max(store.layout().padded_k, store.layout().padded_v);
  const std::int64_t most = std::min(sizes_.vectors, sizes_.query_floats / dim);
  Pass pass{batch, 0, 0, {store.size(), 0}};
  for (; pass.count < count && share_rows(*batch, batch[pass.count]); ++pass.count) {
    const cpu::QueryBlock& queries = batch[pass.count].queries;
    assert(queries.num_vectors() <= most);
    if (pass.vectors + queries.num_vectors() > most) break;
    pass.vectors += queries.num_vectors();
    for (int i = 0; i < queries.num_queries; ++i) {
      const std::int64_t position = queries.positions[i];
      const std::int64_t first = batch->logits.first_visible(position) - batch->first_position;
      pass.rows.begin = std::min(pass.rows.begin, std::max<std::int64_t>(0, first));
      pass.rows.end = std::max(pass.rows.end, std::min(store.size(), position + 1 - batch->first_position));
    }
  }
  return pass;
}

/// Queries, spans and slopes, by one copy.
Queries RowStreaming::send_queries(const Pass& pass, std::byte* staging) const {
  const HostRowsAttention& first = *pass.tasks;
  const std::int64_t padded_k = first.store->layout().padded_k;
  const std::int64_t spans_at = aligned(pass.vectors * padded_k * kFloatBytes);
  const std::int64_t queries = pass.vectors / first.queries.group_size;
  const std::int64_t slopes_at = spans_at + aligned(queries * static_cast<std::int64_t>(sizeof(QuerySpan)));
  auto* q = reinterpret_cast<float*>(staging);
  auto* span = reinterpret_cast<QuerySpan*>(staging + spans_at);
  for (const HostRowsAttention* task = pass.tasks; task != pass.tasks + pass.count; ++task) {
    q = std::copy_n(task->queries.q, task->queries.num_vectors() * padded_k, q);
    for (int i = 0; i < task->queries.num_queries; ++i) {
      const std::int64_t position = task->queries.positions[i];
      *span++ = {position, task->logits.first_visible(position), position + 1};
    }
  }
  const float* alibi = first.logits.alibi;
  std::int64_t bytes = slopes_at;
  if (alibi != nullptr) {
    std::copy_n(alibi, first.queries.group_size, reinterpret_cast<float*>(staging + slopes_at));
    bytes += first.queries.group_size * kFloatBytes;
  }
  TANDEM_CUDA_CHECK(
      cudaMemcpyAsync(input_, staging, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream_.get()));
  return {reinterpret_cast<const float*>(input_),
          reinterpret_cast<const QuerySpan*>(input_ + spans_at),
          alibi == nullptr ? nullptr : reinterpret_cast<const float*>(input_ + slopes_at),
          first.logits.softcap,
          static_cast<std::int32_t>(pass.vectors),
          first.queries.group_size};
}

std::vector<PartialAttention> RowStreaming::results_of(const Pass& pass) const {
  std::vector<PartialAttention> results;
  results.reserve(static_cast<std::size_t>(pass.count));
  for (std::int64_t i = 0; i < pass.count; ++i) results.push_back(pass.tasks[i].result);
  return results;
}

void RowStreaming::run(const Pass& pass, std::uint64_t call, std::chrono::milliseconds timeout) {
  std::vector<PartialAttention> results = results_of(pass);
  Slot& slot = slots_[next_slot_ % slots_.size()];
  if (slot.done > 0) {
    await(done_, slot.done, timeout, stuck_);
    hand_over_reached();
  }
  const HostRowsAttention& first = *pass.tasks;
  const cpu::RowLayout& layout = first.store->layout();
  const Queries queries = send_queries(pass, slot.input);
  auto* state = reinterpret_cast<float*>(states_);
  const std::int64_t rows = kPrefillSplits * pass.vectors;
  const PrefillStates states{state, state + rows * layout.padded_v, state + rows * (layout.padded_v + 1),
                             static_cast<std::int32_t>(pass.vectors)};
  const RowSource source{*first.store, first.first_position, first.left_out, first.helpers};
  const std::int64_t piece_rows = ring_.piece_rows(layout), first_piece = pass.rows.begin / piece_rows;
  for (std::int64_t piece = first_piece; piece * piece_rows < pass.rows.end; ++piece) {
    const PrefillRows sent = ring_.send(source, piece, pass.rows, stream_.get(), timeout);
    launch_prefill_attention(row_type_of(layout.dtype), sent, queries, states, piece == first_piece, stream_.get());
    ring_.release(stream_.get());
  }
  auto* out = reinterpret_cast<float*>(output_);
  const std::int64_t out_floats = pass.vectors * layout.dim_v;
  launch_merge_prefill_states(states, layout.padded_v, layout.dim_v, {out, out + out_floats}, stream_.get());
  const std::int64_t bytes = (out_floats + pass.vectors) * kFloatBytes;
  TANDEM_CUDA_CHECK(
      cudaMemcpyAsync(slot.output, output_, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, stream_.get()));
  slot.done = done_.signal();
  ++next_slot_;
  const std::lock_guard lock(mutex_);
  pending_.push_back({slot.done, call, slot.output, std::move(results)});
}

std::int64_t RowStreaming::attend(const HostRowsAttention* batch, std::int64_t count,
                                  std::chrono::milliseconds timeout) {
  const std::lock_guard lock(calls_);
  const std::uint64_t call = ++num_calls_;
  const std::int64_t sent_before = ring_.bytes_sent();
  try {
    for (std::int64_t done = 0; done < count;) {
      const Pass pass = next_pass(batch + done, count - done);
      if (pass.rows.begin < pass.rows.end) {
        run(pass, call, timeout);
      } else {
        for (const PartialAttention& result : results_of(pass)) set_empty(result);
      }
      done += pass.count;
    }
  } catch (...) {
    forget(call);
    throw;
  }
  return ring_.bytes_sent() - sent_before;
}

void RowStreaming::wait(std::chrono::milliseconds timeout) {
  await(done_, done_.signalled(), timeout, stuck_);
  hand_over_reached();
}

/// The lock is held meanwhile, so that whoever waits for a result that another thread hands over waits for that, too.
void RowStreaming::hand_over_reached() {
  const std::lock_guard lock(mutex_);
  const std::uint64_t reached = done_.reached();
  const auto end = std::partition_point(pending_.begin(), pending_.end(),
                                        [&](const Pending& pending) { return pending.epoch <= reached; });
  for (auto pending = pending_.begin(); pending != end; ++pending) {
    std::int64_t vectors = 0;
    for (const PartialAttention& result : pending->results) vectors += result.rows;
    const auto* out = reinterpret_cast<const float*>(pending->output);
    const float* lse = out + vectors * pending->results.front().dim;
    for (const PartialAttention& result : pending->results) {
      std::copy_n(out, result.rows * result.dim, result.out);
      std::copy_n(lse, result.rows, result.lse);
      out += result.rows * result.dim;
      lse += result.rows;
    }
  }
  pending_.erase(pending_.begin(), end);
}

void RowStreaming::forget(std::uint64_t call) noexcept {
  const std::lock_guard lock(mutex_);
  pending_.erase(std::remove_if(pending_.begin(), pending_.end(), [&](const Pending& p) { return p.call == call; }),
                 pending_.end());
}

void RowStreaming::abandon() noexcept {
  const std::lock_guard lock(mutex_);
  pending_.clear();
}

}  // namespace tandem::gpu::cuda
