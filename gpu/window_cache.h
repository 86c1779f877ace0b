#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gpu/device.h"
#include "gpu/window_params.h"

namespace tandem::gpu {

/// The window of one (sequence, layer, kv_head): sinks, a ring of rows and a ring of coded blocks, in a device's
/// memory.
///
/// Tokens enter at the end as rows. When the ring of rows is full the oldest page of it leaves: without a codec, the
/// window; with one, it is encoded, and the oldest block is forgotten where there is no room for one more. Which tokens
/// are held, and which are coded, depends on how many have entered, not on how they were grouped. The owner takes the
/// rows of a page that leaves to the host tier and publishes there what the window has forgotten: held and published
/// tokens always partition [0, length). Not thread-safe.
class WindowCache {
 public:
  /// `codec` is that of the head and outlives the window; nullptr, or of kind none: no codec. `node` is the NUMA node
  /// of who attends. Throws Error(out_of_memory).
  WindowCache(Device& device, const cpu::RowLayout& layout, const WindowParams& params, const cpu::BlockCodec* codec,
              int node);

  [[nodiscard]] std::int64_t length() const noexcept { return length_; }
  /// Tokens that were forgotten; they are the positions [sinks, sinks + evicted).
  [[nodiscard]] std::int64_t evicted() const noexcept { return evicted_; }
  /// Tokens that left the ring of rows: the forgotten and the coded ones.
  [[nodiscard]] std::int64_t left() const noexcept { return left_; }
  [[nodiscard]] std::int64_t held() const noexcept { return length_ - evicted_; }
  [[nodiscard]] std::int64_t sink_tokens() const noexcept { return params_.sink_tokens; }
  /// Bytes of device memory.
  [[nodiscard]] std::int64_t bytes() const noexcept { return data_.bytes(); }
  /// Tokens that leave the ring of rows at a time: a page, or a block.
  [[nodiscard]] std::int64_t page_rows() const noexcept {
    return codec_ != nullptr ? codec_->format().block_rows : cpu::kPageRows;
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
  /// The oldest page leaves the ring of rows: call when the host tier has its rows.
  void release_page(Stream stream);
  /// Writes one head of `kv` (at most next_slice() tokens) at the end. `kv` belongs to the device until it is waited
  /// for.
  void append(const KvView& kv, std::int64_t head, Stream stream);

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
  /// Forgets the tokens from cut.length on. Waits for the device where tokens come back.
  void truncate(const Cut& cut, Stream stream);
  /// A window of the first `length` tokens, truncated likewise, with memory of its own. Throws Error(out_of_memory).
  [[nodiscard]] WindowCache fork(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row,
                                 Stream stream) const;

 private:
  [[nodiscard]] std::int64_t row_floats() const noexcept { return layout_.padded_k + layout_.padded_v; }
  [[nodiscard]] std::int64_t local_begin() const noexcept { return sink_tokens() + evicted_; }
  [[nodiscard]] std::int64_t raw_begin() const noexcept { return sink_tokens() + left_; }
  /// Slots of the ring of rows: room for those that stay and the page that enters.
  [[nodiscard]] std::int64_t ring() const noexcept {
    return std::int64_t{codec_ != nullptr ? params_.residual_tokens : params_.local_tokens} + page_rows();
  }
  [[nodiscard]] std::int64_t ring_blocks() const noexcept;
  [[nodiscard]] std::int64_t rows_bytes() const noexcept { return (sink_tokens() + ring()) * layout_.row_bytes; }
  [[nodiscard]] std::vector<float> tokens_between(std::int64_t first, std::int64_t last,
                                                  const cpu::RowLayout& host_layout, const HostRow& host_row) const;
  void write_tokens(const std::vector<float>& tokens, std::int64_t first, Stream stream);

  Device* device_;
  cpu::RowLayout layout_;
  WindowParams params_;
  const cpu::BlockCodec* codec_;  ///< nullptr without one
  int node_;
  DeviceBuffer data_;  ///< rows of the sinks, ring of rows, ring of blocks
  std::int64_t length_ = 0;
  std::int64_t evicted_ = 0;
  std::int64_t left_ = 0;
};

}  // namespace tandem::gpu
