#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::ggml {

/// When the rows of a cache were written, one after the other. llama.cpp gives a token whatever cell is free, after a
/// shift of the context one in the midst of others; Tandem wants a sequence's rows oldest first, so that its latest
/// rows are the latest tokens and new ones are appended to what is indexed. Not thread-safe.
class WriteOrder {
 public:
  /// A cache of `num_rows` rows, `stream_rows` for each stream, none of which has been written.
  WriteOrder(std::int64_t num_rows, std::int64_t stream_rows);

  [[nodiscard]] std::int64_t num_rows() const noexcept { return static_cast<std::int64_t>(stamps_.size()); }
  /// Rows in the order in which they were written; all in [0, num_rows()).
  void written(std::span<const std::int64_t> rows);
  /// Whether every write went beyond all earlier ones of its stream: then rows are older the lower they are.
  [[nodiscard]] bool is_by_row() const noexcept { return by_row_; }

  /// Sorts rows, oldest first. Those that were never written (a restored state was copied there) stay in front, in
  /// their order. Fast for few ascending pieces. Returns whether anything moved.
  bool sort(std::span<std::int64_t> rows);

 private:
  [[nodiscard]] std::uint32_t stamp(std::int64_t row) const { return stamps_[static_cast<std::size_t>(row)]; }

  std::vector<std::uint32_t> stamps_;   // 0: never; after 2^32 writes new rows pass for old ones, which costs accuracy
  std::vector<std::int64_t> last_row_;  // of each stream
  std::int64_t stream_rows_;
  std::uint32_t last_stamp_ = 0;
  bool by_row_ = true;
  std::vector<std::size_t> pieces_;
};

}  // namespace tandem::ggml
