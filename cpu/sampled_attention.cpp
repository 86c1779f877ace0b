#include "cpu/sampled_attention.h"

#include <algorithm>
#include <cassert>

namespace tandem::cpu {

void sampled_attention(const Kernels& kernels, const KvStore& store, std::int64_t first_position,
                       const SampledRows& sample, const QueryBlock& queries, const LogitRule& logits,
                       AttentionScratch& scratch, PartialAttention result, SampleSpread spread, RowRange range) {
  assert(queries.num_queries == 1);
  assert(sample.rows.size() == sample.inclusion.size());
  assert(std::is_sorted(sample.rows.begin(), sample.rows.end()));
  AttentionPass pass(kernels, store.layout(), queries, logits, nullptr, scratch);
  auto begin = static_cast<std::size_t>(range.begin);
  const auto end = std::max(begin, std::min(sample.rows.size(), static_cast<std::size_t>(range.end)));
  pass.add_all([&](RowBlock& block) {
    const std::size_t count = std::min<std::size_t>(kBlockRows, end - begin);
    block.count = static_cast<int>(count);
    block.has_inclusion = true;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t row = sample.rows[begin + i];
      block.rows[i] = store.row(row);
      block.positions[i] = first_position + row;
      block.inclusion[i] = sample.inclusion[begin + i];
      assert(block.inclusion[i] > 0.f && block.inclusion[i] <= 1.f);
    }
    // Kernels read whole vectors; a probability of 1 has no logarithm to get wrong.
    std::fill(block.inclusion.begin() + static_cast<std::ptrdiff_t>(count), block.inclusion.end(), 1.f);
    begin += count;
    return count > 0;
  });
  pass.finish(result, spread);
}

}  // namespace tandem::cpu
