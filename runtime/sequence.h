#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cpu/kv_store.h"
#include "gpu/window_cache.h"
#include "lsh/selector.h"
#include "runtime/borrowed/borrowed_head.h"
#include "runtime/merged_tokens.h"
#include "runtime/split.h"

namespace tandem {

/// Both tiers of one (sequence, layer, kv_head). Every token is either in the window or in the store, which has what
/// the window forgot, in order; row r is the token at LayerState::first_host_position() + r.
struct HeadState {
  gpu::WindowCache window;
  cpu::KvStore store;
  lsh::HeadIndex index;
  lsh::QueryLog queries;               ///< that the index may be calibrated on
  double index_us = 0;                 ///< worker time that the index has taken
  std::optional<MergedTokens> merged;  ///< where tokens become entries: what is said of tokens holds for these then
  std::unique_ptr<BorrowedHead> borrowed = nullptr;  ///< where rows are an engine's; the window has no tokens then

  /// Tokens, merged or not.
  [[nodiscard]] std::int64_t length() const noexcept { return merged ? merged->tokens() : window.length(); }
};

/// One layer of a sequence.
struct LayerState {
  std::vector<HeadState> heads;
  TakenSplit split = {};  ///< with Config::auto_split

  [[nodiscard]] std::int64_t length() const noexcept { return heads.front().length(); }
  /// Of row 0 of the stores: the first token that may leave the window.
  [[nodiscard]] std::int64_t first_host_position() const noexcept { return heads.front().window.sink_tokens(); }
};

/// Owns the state of one sequence. One call at a time: see SequenceLock.
class Sequence {
 public:
  Sequence(std::uint64_t id, std::shared_ptr<const lsh::Selector> selector, std::vector<LayerState> layers)
      : id_(id), selector_(std::move(selector)), layers_(std::move(layers)) {}

  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] const lsh::Selector& selector() const noexcept { return *selector_; }
  [[nodiscard]] const std::shared_ptr<const lsh::Selector>& shared_selector() const noexcept { return selector_; }
  [[nodiscard]] LayerState& layer(std::int32_t i) noexcept { return layers_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::int32_t num_layers() const noexcept { return static_cast<std::int32_t>(layers_.size()); }

  /// The index of a head that starts without rows.
  using EmptyIndex = std::function<lsh::HeadIndex(std::int32_t layer, std::int32_t head, int node)>;
  /// The state of a fork at `length` tokens, with this sequence's indexes (whole pages and tables are shared) or, if
  /// given, with empty ones, of which nothing has been measured. Throws Error(out_of_memory).
  [[nodiscard]] std::vector<LayerState> fork_layers(std::int64_t length, const EmptyIndex& empty_index);
  /// Forgets the tokens from `length` on in every layer. Throws Error(out_of_memory), and then nothing changed.
  void truncate(std::int64_t length);
  /// Both must be locked, or unknown to others.
  void swap_layers(Sequence& other) noexcept { layers_.swap(other.layers_); }

 private:
  friend class SequenceLock;
  const std::uint64_t id_;
  std::shared_ptr<const lsh::Selector> selector_;
  std::vector<LayerState> layers_;
  std::atomic<bool> busy_{false};
};

/// Exclusive use of some sequences for one call. A sequence that another call holds is an error, not a wait.
class SequenceLock {
 public:
  /// Takes what `sequences` lists, and empties it when it goes. Throws Error(invalid_state) naming a busy sequence,
  /// Error(invalid_argument) for one that is listed twice.
  explicit SequenceLock(std::vector<std::shared_ptr<Sequence>>& sequences);
  ~SequenceLock();
  SequenceLock(const SequenceLock&) = delete;
  SequenceLock& operator=(const SequenceLock&) = delete;

  [[nodiscard]] Sequence& operator[](std::size_t i) const noexcept { return *sequences_[i]; }
  [[nodiscard]] std::size_t size() const noexcept { return sequences_.size(); }

 private:
  void release(std::size_t held) noexcept;
  std::vector<std::shared_ptr<Sequence>>& sequences_;
};

}  // namespace tandem
