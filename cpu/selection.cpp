#include "cpu/selection.h"

#include <algorithm>

namespace tandem::cpu {
namespace {

/// Keeps the elements of `rows`, and of what goes with them, that `left_out` does not list; both ascend.
template <typename... Parallel>
void erase_listed(std::span<const std::uint32_t> left_out, std::vector<std::uint32_t>& rows, Parallel&... parallel) {
  std::size_t kept = 0;
  auto hole = left_out.begin();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    hole = std::find_if(hole, left_out.end(), [&](std::uint32_t row) { return row >= rows[i]; });
    if (hole != left_out.end() && *hole == rows[i]) continue;
    rows[kept] = rows[i];
    ((parallel.empty() ? void() : void(parallel[kept] = parallel[i])), ...);
    ++kept;
  }
  rows.resize(kept);
  ((parallel.empty() ? void() : parallel.resize(kept)), ...);
}

}  // namespace

void leave_out(std::span<const std::uint32_t> rows, Selection& selection) {
  if (rows.empty()) return;
  erase_listed(rows, selection.rows, selection.head_mask);
  erase_listed(rows, selection.sampled.rows, selection.sampled.inclusion);
}

}  // namespace tandem::cpu
