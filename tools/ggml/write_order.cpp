#include "tools/ggml/write_order.h"

#include <algorithm>

namespace tandem::ggml {

WriteOrder::WriteOrder(std::int64_t num_rows, std::int64_t stream_rows)
    : stamps_(static_cast<std::size_t>(num_rows), 0),
      last_row_(static_cast<std::size_t>((num_rows + stream_rows - 1) / stream_rows), -1),
      stream_rows_(stream_rows) {}

void WriteOrder::written(std::span<const std::int64_t> rows) {
  for (const std::int64_t row : rows) {
    std::int64_t& last = last_row_[static_cast<std::size_t>(row / stream_rows_)];
    by_row_ &= row > last;
    last = std::max(last, row);
    stamps_[static_cast<std::size_t>(row)] = ++last_stamp_;
  }
}

bool WriteOrder::sort(std::span<std::int64_t> rows) {
  pieces_.clear();
  for (std::size_t i = 1; i < rows.size(); ++i)
    if (stamp(rows[i]) < stamp(rows[i - 1])) pieces_.push_back(i);
  const auto older = [this](std::int64_t a, std::int64_t b) { return stamp(a) < stamp(b); };
  const auto at = [&](std::size_t i) { return rows.begin() + static_cast<std::ptrdiff_t>(i); };
  if (pieces_.size() > 16) {  // many sequences have shared the cells
    std::stable_sort(rows.begin(), rows.end(), older);
  } else {
    for (std::size_t p = 0; p < pieces_.size(); ++p) {
      const std::size_t end = p + 1 < pieces_.size() ? pieces_[p + 1] : rows.size();
      std::inplace_merge(rows.begin(), at(pieces_[p]), at(end), older);
    }
  }
  return !pieces_.empty();
}

}  // namespace tandem::ggml
