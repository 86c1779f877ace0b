#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace tandem::gpu {

/// Heads of one layer in memory that has the same number of rows for each.
struct PaddedLength {
  std::int64_t rows = 0;     ///< of every head
  std::int64_t padding = 0;  ///< rows that hold no entry, all heads together

  friend bool operator==(const PaddedLength&, const PaddedLength&) = default;
};

/// DMC-C's layout, for models whose heads were trained to compress alike: the bound that the heads of a layer share,
/// from the entries of each, rounded up to a multiple of `rows_multiple` (>= 1). The update of entries is DMC's.
constexpr PaddedLength padded_length(std::span<const std::int64_t> entries, std::int64_t rows_multiple = 1) noexcept {
  PaddedLength padded;
  for (const std::int64_t count : entries) padded.rows = std::max(padded.rows, count);
  padded.rows = (padded.rows + rows_multiple - 1) / rows_multiple * rows_multiple;
  for (const std::int64_t count : entries) padded.padding += padded.rows - count;
  return padded;
}

}  // namespace tandem::gpu
