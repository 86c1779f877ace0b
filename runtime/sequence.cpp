#include "runtime/sequence.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/committed.h"

namespace tandem {
namespace {

/// None without a host tier: then the window has lost tokens that the store does not have.
gpu::WindowCache::HostRow rows_of(const HeadState& head) {
  if (head.store.stored() < head.window.left()) return {};
  return [&head](std::int64_t row) { return head.store.row(row); };
}

/// The store of a head whose window was cut. It has no rows, whatever the window, without a host tier.
cpu::KvStore cut_store(const HeadState& head, std::int64_t evicted, std::int64_t left) {
  return head.store.fork(std::min(evicted, head.store.size()), std::min(left, head.store.stored()));
}

/// None where tokens are not merged.
std::optional<MergedTokens> cut_merged(const HeadState& head, std::int64_t length) {
  std::optional<MergedTokens> merged = head.merged;
  if (merged) merged->cut(length);
  return merged;
}

}  // namespace

std::vector<LayerState> Sequence::fork_layers(std::int64_t length, const EmptyIndex& empty_index) {
  std::vector<LayerState> copies;
  copies.reserve(layers_.size());
  for (const LayerState& layer : layers_) {
    LayerState copy;
    copy.heads.reserve(layer.heads.size());
    if (!empty_index) copy.split = layer.split.cut(length);
    for (const HeadState& head : layer.heads) {
      const auto h = static_cast<std::int32_t>(copy.heads.size());
      const auto l = static_cast<std::int32_t>(copies.size());
      auto merged = cut_merged(head, length);
      auto window = head.window.fork(merged ? merged->finalised() : length, head.store.layout(), rows_of(head),
                                     gpu::kWindowStream);
      auto store = cut_store(head, window.evicted(), window.left());
      auto index = empty_index ? empty_index(l, h, window.node()) : head.index.fork(store.size());
      copy.heads.push_back({std::move(window), std::move(store), std::move(index), head.queries.fork(),
                            empty_index ? 0.0 : head.index_us, std::move(merged)});
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
    std::optional<MergedTokens> merged;
    gpu::WindowCache::Cut window;
    std::optional<std::pair<cpu::KvStore, lsh::HeadIndex>> host;  ///< where it becomes another
  };
  std::vector<HeadCut> cuts;
  for (LayerState& layer : layers_) {
    for (HeadState& head : layer.heads) {
      HeadCut cut{&head, cut_merged(head, length), {}, {}};
      cut.window =
          head.window.cut_at(cut.merged ? cut.merged->finalised() : length, head.store.layout(), rows_of(head));
      auto store = cut_store(head, cut.window.evicted, cut.window.left);
      if (store.size() != head.store.size() || store.stored() != head.store.stored()) {
        const std::int64_t rows = store.size();
        cut.host.emplace(std::move(store), head.index.fork(rows));
      }
      cuts.push_back(std::move(cut));
    }
  }
  committed([&] {
    for (LayerState& layer : layers_) layer.split = layer.split.cut(length);
    for (HeadCut& cut : cuts) {
      cut.head->window.truncate(cut.window, gpu::kWindowStream);
      cut.head->queries.truncate(length);
      cut.head->merged = std::move(cut.merged);
      if (!cut.host) continue;
      cut.head->store = std::move(cut.host->first);
      cut.head->index = std::move(cut.host->second);
    }
  });
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
