#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/row_layout.h"
#include "gpu/window_policy/dmc.h"
#include "runtime/base/view.h"

namespace tandem {

/// Entries that are final, on their way into a window.
struct ClosedEntries {
  std::vector<float> k, v;                 ///< (entries, dim), keys rotated
  std::vector<std::int64_t> visible_from;  ///< the first position that sees each of them instead of an earlier state

  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(visible_from.size()); }
  void reserve(std::int64_t entries, const cpu::RowLayout& layout);
  /// As tokens of one head.
  [[nodiscard]] KvView view(const cpu::RowLayout& layout) const noexcept;
};

/// The tokens of one (sequence, layer, kv_head) that are merged into entries (DMC, arXiv:2403.09636).
///
/// Entries enter the window when they are final. Until then the open one lives here, as do the states that the tokens
/// of the latest append left their entries in: query t sees the final entries before token t's, and token t's as it was
/// then. A copy is a fork. Not thread-safe.
class MergedTokens {
 public:
  MergedTokens(const gpu::DmcParams& params, const cpu::RopeParams& rope, const cpu::RowLayout& layout);

  [[nodiscard]] std::int64_t tokens() const noexcept { return entries_.tokens(); }
  /// Entries that the window holds or has held.
  [[nodiscard]] std::int64_t finalised() const noexcept { return entries_.finalised(); }
  /// Entries, the open one among them.
  [[nodiscard]] std::int64_t entries() const noexcept { return entries_.entries(); }
  /// Entries that become final when tokens with these decisions enter.
  [[nodiscard]] std::int64_t closing(std::span<const gpu::DmcDecision> decisions) const noexcept;
  /// Room for `tokens` more in one call, so that append() allocates nothing.
  void reserve(std::int64_t tokens);
  /// Enters tokens, head `head` of `kv`, keys before RoPE, and replaces `closed` by what that makes final.
  void append(const KvView& kv, std::int64_t head, std::span<const gpu::DmcDecision> decisions, ClosedEntries& closed);

  /// The positions from here on have an own entry.
  [[nodiscard]] std::int64_t first_own() const noexcept { return tokens() - num_own_; }
  /// Own entries (padded K then padded V) of the positions from `position` on, one after the other.
  [[nodiscard]] const float* own_entries(std::int64_t position) const noexcept {
    return own_.data() + (position - first_own()) * (padded_k_ + padded_v_);
  }

  /// Whether the state after `length` tokens is still known.
  [[nodiscard]] bool can_cut(std::int64_t length) const noexcept {
    return length == 0 || length >= entries_.restorable_length();
  }
  [[nodiscard]] std::int64_t shortest_cut() const noexcept { return entries_.restorable_length(); }
  /// Forgets the tokens from `length` on, which can_cut(); own entries are gone then.
  void cut(std::int64_t length);

 private:
  gpu::DmcHead entries_;
  std::int64_t dim_k_, dim_v_, padded_k_, padded_v_;
  std::int64_t num_own_ = 0;
  std::vector<float> own_;
  std::vector<float> k_, v_, keys_, values_;  // scratch of append()
  std::vector<gpu::DmcEntry> states_;
};

}  // namespace tandem
