#include "cpu/latest_attention.h"

#include <algorithm>
#include <cassert>

namespace tandem::cpu {
namespace {

/// Of the positions [0, first) and [second, end).
struct Ranges {
  std::int64_t first, second, end;
};

Ranges ranges_of(const KvStore& store, std::int64_t first_position, std::int64_t position) noexcept {
  const std::int64_t end = std::min(position + 1, first_position + store.stored());
  const std::int64_t second = std::min(end, first_position + store.size());
  return {std::min(first_position, end), std::max(second, std::min(first_position, end)), end};
}

}  // namespace

std::int64_t latest_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                              const QueryBlock& queries, const LogitRule& logits, AttentionScratch& scratch,
                              PartialAttention result) {
  assert(queries.num_queries == 1 && store.is_borrowed());
  const Ranges ranges = ranges_of(store, first_position, queries.positions[0]);
  AttentionPass pass(kernels, store.layout(), queries, logits, nullptr, scratch);
  std::int64_t next = ranges.first > 0 ? 0 : ranges.second;
  pass.add_all([&](RowBlock& block) {
    block.count = 0;
    while (block.count < kBlockRows && next < ranges.end) {
      const auto slot = static_cast<std::size_t>(block.count++);
      block.rows[slot] = store.row(next - first_position);
      block.positions[slot] = next;
      if (++next == ranges.first) next = ranges.second;
    }
    return block.count > 0;
  });
  pass.finish(result);
  return latest_rows(store, first_position, queries.positions[0]);
}

std::int64_t latest_rows(const KvStore& store, std::int64_t first_position, std::int64_t position) noexcept {
  const Ranges ranges = ranges_of(store, first_position, position);
  return ranges.first + ranges.end - ranges.second;
}

}  // namespace tandem::cpu
