#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "cpu/codec/block_codec.h"
#include "gpu/device.h"
#include "gpu/paged_slots.h"
#include "gpu/window_params.h"
#include "gpu/window_policy/kept_tokens.h"

namespace tandem::gpu {

/// The window of one (sequence, layer, kv_head): sinks, a ring of rows, a ring of coded blocks and older tokens that a
/// policy keeps, in a device's memory.
///
/// Tokens enter at the end as rows. When the ring of rows is full the oldest page of it leaves. Without a codec it
/// leaves the window, but for tokens that the policy keeps; with one, it is encoded, and the oldest block is forgotten
/// where there is no room for one more. Which tokens are local, and which are coded, depends on how many have entered,
/// not on how they were grouped. The owner takes the rows of a page that leaves to the host tier and publishes there
/// what is no longer local; of these, kept_rows() are still the window's. Held tokens and the others partition [0,
/// length). Not thread-safe.
class WindowCache {
 public:
  /// `codec` is that of the head and outlives the window; nullptr, or of kind none: no codec. `node` is the NUMA node
  /// of who attends. Throws Error(out_of_memory).
  WindowCache(Device& device, const cpu::RowLayout& layout, const WindowParams& params, const cpu::BlockCodec* codec,
              int node);

  [[nodiscard]] std::int64_t length() const noexcept { return length_; }
  /// Tokens that are no longer local; they are the positions [sinks, sinks + evicted).
  [[nodiscard]] std::int64_t evicted() const noexcept { return evicted_; }
  /// Tokens that left the ring of rows: the forgotten and the coded ones.
  [[nodiscard]] std::int64_t left() const noexcept { return left_; }
  [[nodiscard]] std::int64_t held() const noexcept {
    return length_ - evicted_ + static_cast<std::int64_t>(kept_rows_.size());
  }
  /// Of the evicted tokens, counted from the end of the sinks, those that the policy keeps, ascending.
  [[nodiscard]] std::span<const std::uint32_t> kept_rows() const noexcept { return kept_rows_; }
  [[nodiscard]] const KeptTokens* kept() const noexcept { return kept_ ? &*kept_ : nullptr; }
  [[nodiscard]] std::int64_t sink_tokens() const noexcept { return params_.sink_tokens; }
  /// Bytes of device memory, taken so far.
  [[nodiscard]] std::int64_t bytes() const noexcept { return rows_.bytes() + blocks_.bytes() + kept_slots_.bytes(); }
  /// Tokens that leave the ring of rows at a time.
  [[nodiscard]] std::int64_t page_rows() const noexcept {
    return codec_ != nullptr ? codec_->format().block_rows : kept_ ? params_.page_tokens : cpu::kPageRows;
  }
  /// The most tokens that may enter between two attentions where scores or entries depend on these.
  [[nodiscard]] std::int64_t raw_tokens() const noexcept {
    return codec_ != nullptr ? params_.residual_tokens : params_.local_tokens;
  }
  /// Tokens that have left, or are forgotten, once `length` have entered: whole pages, as few as let the others fit.
  [[nodiscard]] std::int64_t left_at(std::int64_t length) const noexcept;
  [[nodiscard]] std::int64_t evicted_at(std::int64_t length) const noexcept;
  /// Tokens that leave before `count` more have entered.
  [[nodiscard]] std::int64_t leaving_for(std::int64_t count) const noexcept { return left_at(length_ + count) - left_; }
  /// Tokens that can enter now, at most one page, and whether a page has to leave first.
  struct Slice {
    std::int64_t tokens;
    bool leaves;
  };
  [[nodiscard]] Slice next_slice(std::int64_t waiting) const noexcept;

  [[nodiscard]] int node() const noexcept { return node_; }
  [[nodiscard]] WindowView view() const noexcept;
  /// Copies the page_rows() rows of the page that has to leave to host memory, which belongs to the device until it is
  /// waited for.
  void read_leaving_page(const cpu::RowLayout& host_layout, std::byte* host_rows, Stream stream) const;
  /// The oldest page leaves the ring of rows, after it was read.
  void release_page(Stream stream);
  /// Takes the memory that `count` more tokens need, so that appending them cannot fail. Throws Error(out_of_memory).
  void reserve(std::int64_t count);
  /// Writes one head of `kv` (at most next_slice() tokens) at the end. `scores` (tokens): of a policy whose scores are
  /// external, otherwise empty. `visible_from` (tokens): of entries, otherwise empty.
  void append(const KvView& kv, std::int64_t head, Stream stream, std::span<const float> scores = {},
              std::span<const std::int64_t> visible_from = {});
  /// Adds to the scores of the tokens that are held; for a policy whose scores are attention.
  void accumulate(const WindowMass& mass) { kept_->accumulate(mass); }

  /// Row `row` in the host tier, which is the token at position sinks + row. None: there is no host tier.
  using HostRow = std::function<const std::byte*(std::int64_t row)>;
  /// What truncating to `length` tokens takes: the tokens that a window never longer than that would still hold, or
  /// hold as rows, come back from the host tier. Without one, the coded tokens are decoded and forgotten ones stay
  /// away.
  struct Cut {
    std::int64_t length = 0;
    std::int64_t evicted = 0;
    std::int64_t left = 0;
    std::vector<float> blocks;  ///< (tokens, padded K then padded V): from `evicted` on, to be encoded
    std::vector<float> rows;    ///< likewise, from `left` on
  };
  /// Reads `host_row` in `host_layout`. Throws Error(out_of_memory) or std::bad_alloc; a `length` beyond the end cuts
  /// nothing. Without a host tier, `length` must be shortest_cut() or more, or at most sink_tokens().
  [[nodiscard]] Cut cut_at(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row) const;
  /// The least length beyond the sinks at which the window lacks nothing that was forgotten.
  [[nodiscard]] std::int64_t shortest_cut() const noexcept { return local_begin(); }
  /// Forgets the tokens from cut.length on.
  void truncate(const Cut& cut, Stream stream);
  /// A window of the first `length` tokens, truncated likewise, with memory of its own. Throws Error(out_of_memory).
  [[nodiscard]] WindowCache fork(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row,
                                 Stream stream) const;

 private:
  [[nodiscard]] std::int64_t row_floats() const noexcept { return layout_.padded_k + layout_.padded_v; }
  [[nodiscard]] std::int64_t local_begin() const noexcept { return sink_tokens() + evicted_; }
  [[nodiscard]] std::int64_t raw_begin() const noexcept { return sink_tokens() + left_; }
  /// Slots of the ring of rows: room for those that stay and the page that enters.
  [[nodiscard]] std::int64_t ring() const noexcept { return raw_tokens() + page_rows(); }
  [[nodiscard]] std::int64_t ring_blocks() const noexcept;
  void list_kept_rows();
  [[nodiscard]] std::vector<float> tokens_between(std::int64_t first, std::int64_t last,
                                                  const cpu::RowLayout& host_layout, const HostRow& host_row) const;
  void write_tokens(const std::vector<float>& tokens, std::int64_t first, Stream stream);

  Device* device_;
  cpu::RowLayout layout_;
  WindowParams params_;
  const cpu::BlockCodec* codec_;  ///< nullptr without one
  int node_;
  std::optional<KeptTokens> kept_;
  PagedSlots rows_;    ///< of the sinks, then the ring
  PagedSlots blocks_;  ///< a ring
  PagedSlots kept_slots_;
  std::vector<std::int64_t> visible_from_;  ///< by slot of rows_; empty where tokens are not merged
  std::vector<std::uint32_t> kept_rows_;
  std::int64_t length_ = 0;
  std::int64_t evicted_ = 0;
  std::int64_t left_ = 0;
};

}  // namespace tandem::gpu
