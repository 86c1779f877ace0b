#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gpu/device.h"

namespace tandem::gpu {

/// What stays in the window: the first tokens of a sequence for good, and the latest ones.
/// Source: attention sinks, Xiao et al., arXiv:2309.17453.
struct WindowParams {
  std::int32_t sink_tokens = 4;
  std::int32_t local_tokens = 256;  ///< at least this many, as soon as there are; up to one page more
  DType dtype = DType::f32;

  friend bool operator==(const WindowParams&, const WindowParams&) = default;
};
void validate(const WindowParams& params);  ///< throws Error(invalid_argument) naming the field and the value

/// The window of one (sequence, layer): sinks and a ring of local pages for each KV head, in a device's memory.
///
/// Tokens enter at the end and leave a page (cpu::kPageRows tokens) at a time, oldest first, when the ring is full;
/// which tokens are held depends on how many have entered, not on how they were grouped. The owner moves the rows that
/// leave to the host tier: held and left tokens always partition [0, length). Not thread-safe.
class WindowCache {
 public:
  /// `nodes` has the NUMA node of each KV head. Throws Error(out_of_memory).
  WindowCache(Device& device, const cpu::RowLayout& layout, const WindowParams& params, const std::vector<int>& nodes);

  [[nodiscard]] std::int64_t length() const noexcept { return length_; }
  /// Tokens that left; they are the positions [sinks, sinks + evicted).
  [[nodiscard]] std::int64_t evicted() const noexcept { return evicted_; }
  [[nodiscard]] std::int64_t held() const noexcept { return length_ - evicted_; }
  [[nodiscard]] std::int64_t sink_tokens() const noexcept { return params_.sink_tokens; }
  /// Tokens that have left once `length` have entered: whole pages, as few as let the others fit.
  [[nodiscard]] std::int64_t evicted_at(std::int64_t length) const noexcept;
  /// Tokens that leave before `count` more have entered.
  [[nodiscard]] std::int64_t evictions_for(std::int64_t count) const noexcept {
    return evicted_at(length_ + count) - evicted_;
  }
  /// Tokens that can enter now, at most one page, and whether a page has to leave first.
  struct Slice {
    std::int64_t tokens;
    bool evicts;
  };
  [[nodiscard]] Slice next_slice(std::int64_t waiting) const noexcept;

  [[nodiscard]] int node_of(std::int64_t head) const noexcept { return nodes_[static_cast<std::size_t>(head)]; }
  [[nodiscard]] WindowView view(std::int64_t head) const noexcept;
  /// Copies the page that has to leave, of every head, to host memory: (heads, kPageRows) rows. Waits for the device.
  void read_oldest_page(const cpu::RowLayout& host_layout, std::byte* host_rows, Stream stream) const;
  /// The oldest page is no longer held: call when the host tier has its rows.
  void drop_oldest_page() noexcept { evicted_ += cpu::kPageRows; }
  /// Writes `kv` (at most next_slice() tokens) at the end, all heads. `kv` belongs to the device until it is waited
  /// for.
  void append(const KvView& kv, Stream stream);

  /// Row `row` of a head in the host tier, which is the token at position sinks + row.
  using HostRow = std::function<const std::byte*(std::int64_t head, std::int64_t row)>;
  /// What truncating to `length` tokens takes: the rows that a window never longer than that would still hold come
  /// back from the host tier, host rows [evicted_at(length), evicted()) as far as they lie before `length`.
  struct Cut {
    std::int64_t length;
    std::int64_t evicted;
    std::vector<float> rows;  ///< (heads, tokens, padded K then padded V)
  };
  /// Reads `host_row` in `host_layout`. Throws Error(out_of_memory) or std::bad_alloc; a `length` beyond the end cuts
  /// nothing.
  [[nodiscard]] Cut cut_at(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row) const;
  /// Forgets the tokens from cut.length on. Waits for the device where rows come back.
  void truncate(const Cut& cut, Stream stream);
  /// A window of the first `length` tokens, truncated likewise, with memory of its own. Throws Error(out_of_memory).
  [[nodiscard]] WindowCache fork(std::int64_t length, const cpu::RowLayout& host_layout, const HostRow& host_row,
                                 Stream stream) const;

 private:
  [[nodiscard]] std::int64_t num_heads() const noexcept { return static_cast<std::int64_t>(heads_.size()); }
  [[nodiscard]] std::int64_t row_floats() const noexcept { return layout_.padded_k + layout_.padded_v; }
  [[nodiscard]] std::int64_t local_begin() const noexcept { return sink_tokens() + evicted_; }
  /// Slots of the ring: room for the local tokens and the page that enters.
  [[nodiscard]] std::int64_t ring() const noexcept { return std::int64_t{params_.local_tokens} + cpu::kPageRows; }

  Device* device_;
  cpu::RowLayout layout_;
  WindowParams params_;
  std::vector<int> nodes_;
  std::vector<DeviceBuffer> heads_;
  std::int64_t length_ = 0;
  std::int64_t evicted_ = 0;
};

}  // namespace tandem::gpu
