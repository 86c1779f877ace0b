#include "gpu/host/host_device.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "cpu/codec/block_codec.h"
#include "gpu/window_policy/kept_tokens.h"

namespace tandem::gpu {
namespace {

/// Rows of a window, in blocks, one after the other.
class RowBlocks {
 public:
  /// The positions [first, last) of a run that starts at `origin`. Blocks start at whole blocks from the origin, hidden
  /// rows included: results then do not depend on which queries share the pass.
  static RowBlocks run(const WindowView& window, std::int64_t origin, std::int64_t first, std::int64_t last) {
    return {window, origin + std::max<std::int64_t>(0, first - origin) / cpu::kBlockRows * cpu::kBlockRows, last};
  }
  /// Fills the next block; false when there is none.
  bool operator()(cpu::RowBlock& block) {
    if (next_ >= last_) return false;
    block.count = static_cast<int>(std::min<std::int64_t>(cpu::kBlockRows, last_ - next_));
    for (int i = 0; i < block.count; ++i, ++next_) {
      const std::int64_t slot = window_.slot(next_);
      block.rows[static_cast<std::size_t>(i)] = window_.rows[slot];
      block.positions[static_cast<std::size_t>(i)] =
          window_.visible_from == nullptr ? next_ : window_.visible_from[slot];
    }
    return true;
  }
  [[nodiscard]] std::int64_t next() const noexcept { return next_; }

 private:
  RowBlocks(const WindowView& window, std::int64_t first, std::int64_t last)
      : window_(window), next_(first), last_(last) {}

  const WindowView& window_;
  std::int64_t next_, last_;
};

/// The tokens that the policy keeps, likewise, by ascending position.
class KeptBlocks {
 public:
  explicit KeptBlocks(const WindowView& window) : window_(window) {}
  bool operator()(cpu::RowBlock& block) {
    slots_ = window_.kept->slots().subspan(done_);
    if (slots_.empty()) return false;
    slots_ = slots_.first(std::min<std::size_t>(cpu::kBlockRows, slots_.size()));
    block.count = static_cast<int>(slots_.size());
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      block.rows[i] = window_.kept_rows[slots_[i]];
      block.positions[i] = window_.kept->position(slots_[i]);
    }
    done_ += slots_.size();
    return true;
  }
  /// Slots of the block that was filled last.
  [[nodiscard]] std::span<const std::int32_t> slots() const noexcept { return slots_; }

 private:
  const WindowView& window_;
  std::size_t done_ = 0;
  std::span<const std::int32_t> slots_;
};

/// Coded positions, likewise: blocks that lie back to back are one run.
void add_coded(const WindowView& window, std::int64_t first, std::int64_t last, cpu::AttentionPass& pass) {
  const cpu::BlockFormat& format = *window.format;
  const std::int64_t seen = std::max(first, window.local_begin);
  std::int64_t p = seen - (seen - window.sinks) % cpu::kBlockRows;
  while (p < last) {
    const std::int64_t origin = window.block_begin(p);
    std::int64_t end = origin + format.block_rows;
    while (end < last && window.block(end) == window.block(end - 1) + format.block_bytes) end += format.block_rows;
    pass.add_coded_run(window.block(p), p - origin, std::min(end, last) - origin, origin);
    p = end;
  }
}

/// Positions that at least one of the queries sees.
struct VisibleSpan {
  std::int64_t first, end;
};

VisibleSpan visible_span(const WindowAttention& task) {
  return {task.logits.first_visible(task.queries.positions[0]),
          std::min(task.window.end, task.queries.positions[task.queries.num_queries - 1] + 1)};
}

/// Merges in what each query sees beside the window: one entry of its own.
void merge_own_entries(const WindowAttention& task) {
  const cpu::RowLayout& layout = task.window.layout;
  const int group = task.queries.group_size;
  const float* key = task.own_entries;
  for (int v = 0; v < task.queries.num_vectors(); ++v) {
    if (v > 0 && v % group == 0) key += layout.padded_k + layout.padded_v;
    const float* query = task.queries.q + static_cast<std::ptrdiff_t>(v) * layout.padded_k;
    float logit = 0.f;
    for (std::int32_t d = 0; d < layout.dim_k; ++d) logit += query[d] * key[d];
    if (task.logits.softcap > 0.f) logit = task.logits.softcap * std::tanh(logit / task.logits.softcap);
    const std::int64_t dim = task.result.dim;
    merge_state({task.result.out + v * dim, task.result.lse + v, 1, dim}, {key + layout.padded_k, &logit, 1, dim});
  }
}

PartialAttention partial_like(PartialAttention result, std::vector<float>& out, std::vector<float>& lse) {
  out.resize(static_cast<std::size_t>(result.rows * result.dim));
  lse.resize(static_cast<std::size_t>(result.rows));
  return {out.data(), lse.data(), result.rows, result.dim};
}

}  // namespace

HostDevice::HostDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger)
    : kernels_(kernels), topology_(topology), ledger_(ledger) {}

std::string HostDevice::name() const { return std::string("host (") + cpu::to_string(kernels_.isa) + ")"; }

std::byte* HostDevice::allocate(std::int64_t bytes, int node) {
  if (bytes == 0) return nullptr;
  auto buffer = numa::HostBuffer::on_node(topology_, node, bytes, ledger_, "window");
  const std::lock_guard lock(mutex_);
  std::byte* data = buffer.data();
  buffers_.emplace(data, std::move(buffer));
  return data;
}

void HostDevice::release(std::byte* data, std::int64_t /*bytes*/) noexcept {
  const std::lock_guard lock(mutex_);
  buffers_.erase(data);
}

void HostDevice::copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream /*stream*/) {
  if (bytes > 0) std::memcpy(target, source, static_cast<std::size_t>(bytes));
}

/// Encodes the block of positions from `first` on, whose token t is load(t, k, v).
template <typename Load>
void HostDevice::encode(const WindowView& window, std::int64_t first, Scratch& scratch, const Load& load) const {
  const auto rows = static_cast<std::size_t>(window.format->block_rows);
  const auto padded_k = static_cast<std::size_t>(window.layout.padded_k);
  const auto padded_v = static_cast<std::size_t>(window.layout.padded_v);
  scratch.k.assign(rows * padded_k, 0.f);
  scratch.v.assign(rows * padded_v, 0.f);
  for (std::size_t t = 0; t < rows; ++t)
    load(static_cast<std::int64_t>(t), scratch.k.data() + t * padded_k, scratch.v.data() + t * padded_v);
  window.codec->encode(scratch.k.data(), scratch.v.data(), first, window.block(first));
}

void HostDevice::write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                            Stream /*stream*/) {
  const std::int64_t tokens = host_kv.k.tokens;
  const std::int64_t block_rows = window.codec == nullptr ? 0 : window.format->block_rows;
  if (tokens > 0 && window.is_coded(first)) {
    const LeasePool<Scratch>::Lease scratch(scratch_);
    for (std::int64_t b = 0; b < tokens; b += block_rows) {
      encode(window, first + b, *scratch, [&](std::int64_t t, float* k, float* v) {
        load_f32(host_kv.k.dtype, host_kv.k.row(b + t, head), k, window.layout.dim_k);
        load_f32(host_kv.v.dtype, host_kv.v.row(b + t, head), v, window.layout.dim_v);
      });
    }
    return;
  }
  for (std::int64_t t = 0; t < tokens; ++t) {
    cpu::write_row(window.layout, host_kv.k.dtype, host_kv.k.row(t, head), host_kv.v.row(t, head),
                   window.row(first + t));
  }
}

void HostDevice::encode_block(const WindowView& window, std::int64_t first, Stream /*stream*/) {
  const LeasePool<Scratch>::Lease scratch(scratch_);
  encode(window, first, *scratch, [&](std::int64_t t, float* k, float* v) {
    cpu::load_key(window.layout, window.row(first + t), k);
    cpu::load_value(window.layout, window.row(first + t), v);
  });
}

void HostDevice::read_rows(const WindowView& window, std::int64_t first, std::int64_t count,
                           const cpu::RowLayout& host_layout, std::byte* host_rows, Stream /*stream*/) {
  const LeasePool<Scratch>::Lease scratch(scratch_);
  for (std::int64_t p = first; p < first + count; ++p, host_rows += host_layout.row_bytes) {
    if (!window.is_coded(p)) {
      cpu::convert_row(window.layout, window.row(p), host_layout, host_rows);
      continue;
    }
    scratch->k.resize(static_cast<std::size_t>(window.layout.padded_k));
    scratch->v.resize(static_cast<std::size_t>(window.layout.padded_v));
    const std::int64_t begin = window.block_begin(p);
    window.codec->decode(window.block(p), begin, static_cast<int>(p - begin), 1, scratch->k.data(), scratch->v.data());
    cpu::write_row(host_layout, DType::f32, reinterpret_cast<const std::byte*>(scratch->k.data()),
                   reinterpret_cast<const std::byte*>(scratch->v.data()), host_rows);
  }
}

/// With queries turned back, as if the sinks stood right before the local tokens.
void HostDevice::attend_sinks(const WindowAttention& task, Scratch& scratch) const {
  const cpu::RowLayout& layout = task.window.layout;
  const std::int64_t vectors = task.queries.num_vectors();
  scratch.sink_queries.assign(task.queries.q, task.queries.q + vectors * layout.padded_k);
  cpu::rotate(task.rope, layout.dim_k, -task.sink_turn, scratch.sink_queries.data(), vectors, layout.padded_k);
  cpu::QueryBlock queries = task.queries;
  queries.q = scratch.sink_queries.data();
  const VisibleSpan visible = visible_span(task);
  cpu::AttentionPass pass(kernels_, layout, queries, task.logits, nullptr, scratch.attention);
  pass.add_all(RowBlocks::run(task.window, 0, visible.first, std::min(task.window.sinks, visible.end)));
  const PartialAttention sinks = partial_like(task.result, scratch.out, scratch.lse);
  pass.finish(sinks);
  merge_state(task.result, as_const(sinks));
}

void HostDevice::attend_coded(const WindowAttention& task, Scratch& scratch) const {
  const VisibleSpan visible = visible_span(task);
  cpu::AttentionPass pass(kernels_, *task.window.format, task.queries, task.logits, scratch.attention);
  add_coded(task.window, visible.first, std::min(task.window.raw_begin, visible.end), pass);
  const PartialAttention coded = partial_like(task.result, scratch.out, scratch.lse);
  pass.finish(coded);
  merge_state(task.result, as_const(coded));
}

/// What the kept and the recent rows got of the attention that `task` has computed.
void HostDevice::add_mass(const WindowAttention& task, Scratch& scratch) const {
  const WindowView& window = task.window;
  cpu::AttentionPass pass(kernels_, window.layout, task.queries, task.logits, nullptr, scratch.attention);
  cpu::RowBlock block;
  std::array<float, cpu::kBlockRows> mass;
  for (KeptBlocks kept(window); kept(block);) {
    mass.fill(0.f);
    pass.add_mass(block, task.result.lse, mass.data());
    for (std::size_t i = 0; i < kept.slots().size(); ++i) task.mass.kept[kept.slots()[i]] += mass[i];
  }
  const VisibleSpan visible = visible_span(task);
  for (RowBlocks raw = RowBlocks::run(window, window.raw_begin, visible.first, visible.end); raw(block);)
    pass.add_mass(block, task.result.lse, task.mass.raw + (raw.next() - block.count - window.raw_begin));
}

void HostDevice::attend(const WindowAttention& task, Scratch& scratch) const {
  const WindowView& window = task.window;
  const VisibleSpan visible = visible_span(task);
  {
    cpu::AttentionPass pass(kernels_, window.layout, task.queries, task.logits, nullptr, scratch.attention);
    if (task.sink_turn == 0)
      pass.add_all(RowBlocks::run(window, 0, visible.first, std::min(window.sinks, visible.end)));
    if (window.kept != nullptr) pass.add_all(KeptBlocks(window));
    pass.add_all(RowBlocks::run(window, window.raw_begin, visible.first, visible.end));
    pass.finish(task.result);
  }
  if (task.sink_turn != 0) attend_sinks(task, scratch);
  if (window.local_begin < window.raw_begin) attend_coded(task, scratch);
  if (task.own_entries != nullptr) merge_own_entries(task);
  if (task.mass.raw != nullptr) add_mass(task, scratch);
}

void HostDevice::window_attention(const WindowAttention* batch, std::int64_t count, Stream /*stream*/) {
  const LeasePool<Scratch>::Lease scratch(scratch_);
  for (std::int64_t i = 0; i < count; ++i) attend(batch[i], *scratch);
}

}  // namespace tandem::gpu
