#include "runtime/sequence.h"

#include <algorithm>
#include <utility>

#include "runtime/base/error.h"

namespace tandem {
namespace {

gpu::WindowCache::HostRow rows_of(const LayerState& layer) {
  return [&layer](std::int64_t head, std::int64_t row) {
    return layer.heads[static_cast<std::size_t>(head)].store.row(row);
  };
}

const cpu::RowLayout& host_layout_of(const LayerState& layer) { return layer.heads.front().store.layout(); }

}  // namespace

std::vector<LayerState> Sequence::fork_layers(std::int64_t length, const EmptyIndex& empty_index) {
  std::vector<LayerState> copies;
  copies.reserve(layers_.size());
  for (const LayerState& layer : layers_) {
    LayerState copy{layer.window.fork(length, host_layout_of(layer), rows_of(layer), gpu::kWindowStream), {}};
    const std::int64_t rows = copy.window.evicted();
    copy.heads.reserve(layer.heads.size());
    for (const HeadState& head : layer.heads) {
      const auto h = static_cast<std::int32_t>(copy.heads.size());
      const auto l = static_cast<std::int32_t>(copies.size());
      copy.heads.push_back({head.store.fork(rows),
                            empty_index ? empty_index(l, h, layer.window.node_of(h)) : head.index.fork(rows),
                            head.queries.fork(), empty_index ? 0.0 : head.index_us});
      copy.heads.back().queries.truncate(length);
    }
    copies.push_back(std::move(copy));
  }
  return copies;
}

void Sequence::truncate(std::int64_t length) {
  // Everything that can fail for want of memory happens on the side first.
  struct HeadCut {
    HeadState* head;
    cpu::KvStore store;
    lsh::HeadIndex index;
  };
  std::vector<HeadCut> heads;
  std::vector<gpu::WindowCache::Cut> windows;
  for (LayerState& layer : layers_) {
    windows.push_back(layer.window.cut_at(length, host_layout_of(layer), rows_of(layer)));
    const std::int64_t rows = windows.back().evicted;
    if (rows == layer.window.evicted()) continue;
    for (HeadState& head : layer.heads) heads.push_back({&head, head.store.fork(rows), head.index.fork(rows)});
  }
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    layers_[l].window.truncate(windows[l], gpu::kWindowStream);
    for (HeadState& head : layers_[l].heads) head.queries.truncate(length);
  }
  for (HeadCut& cut : heads) {
    cut.head->store = std::move(cut.store);
    cut.head->index = std::move(cut.index);
  }
}

SequenceLock::SequenceLock(std::vector<std::shared_ptr<Sequence>>& sequences) : sequences_(sequences) {
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    if (!sequences_[i]->busy_.exchange(true, std::memory_order_acquire)) continue;
    const std::uint64_t id = sequences_[i]->id();
    const auto earlier = sequences_.begin() + static_cast<std::ptrdiff_t>(i);
    const bool twice = std::find(sequences_.begin(), earlier, sequences_[i]) != earlier;
    release(i);
    TANDEM_CHECK(!twice, invalid_argument, "seqs lists sequence ", id, " twice");
    fail(ErrorCode::invalid_state, "sequence ", id, " is in use by another call; one call at a time");
  }
}

SequenceLock::~SequenceLock() { release(sequences_.size()); }

void SequenceLock::release(std::size_t held) noexcept {
  for (std::size_t i = 0; i < held; ++i) sequences_[i]->busy_.store(false, std::memory_order_release);
  sequences_.clear();  // buffers outlive the call; they must not keep a destroyed sequence alive
}

}  // namespace tandem
