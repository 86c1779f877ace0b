#pragma once

#include "lsh/tables.h"
#include "tests/support/index_fixture.h"

namespace tandem::testing {

/// Codes (count, tables) of centred keys or of queries.
inline std::vector<std::uint16_t> codes_of(const cpu::SimHash& hash, const std::vector<float>& x, int dim,
                                           const std::vector<float>& mean) {
  auto padded = padded_queries(x, dim, 1.f);
  for (std::size_t i = 0; !mean.empty() && i < padded.size(); ++i) padded[i] -= mean[i % mean.size()];
  const auto count = static_cast<std::int64_t>(x.size()) / dim;
  std::vector<std::uint16_t> blocks(static_cast<std::size_t>(hash.codes_size(count))), codes;
  cpu::HashScratch scratch;
  hash.encode(cpu::kernels_for(cpu::choose_isa(std::nullopt)), padded.data(), count, blocks.data(), scratch);
  for (std::int64_t v = 0; v < count; ++v) {
    for (int t = 0; t < hash.num_tables(); ++t) codes.push_back(blocks[hash.code_index(v, t)]);
  }
  return codes;
}

/// The heads that meet each row at least `min_collisions` times, by comparing all codes.
inline std::vector<std::uint64_t> naive_masks(const std::vector<std::uint16_t>& key_codes,
                                              const std::vector<std::uint16_t>& query_codes, int tables,
                                              int min_collisions) {
  const auto width = static_cast<std::size_t>(tables);
  std::vector<std::uint64_t> masks(key_codes.size() / width, 0);
  for (std::size_t r = 0; r < masks.size(); ++r) {
    for (std::size_t h = 0; h < query_codes.size() / width; ++h) {
      int collisions = 0;
      for (std::size_t t = 0; t < width; ++t) {
        collisions += key_codes[r * width + t] == query_codes[h * width + t] ? 1 : 0;
      }
      if (collisions >= min_collisions) masks[r] |= std::uint64_t{1} << h;
    }
  }
  return masks;
}

/// The selection is exactly the rows of [begin, end) with a mask, ascending.
inline void expect_selection(const cpu::Selection& selection, const std::vector<std::uint64_t>& masks,
                             std::int64_t begin, std::int64_t end) {
  std::vector<std::uint32_t> rows;
  std::vector<std::uint64_t> head_mask;
  for (std::int64_t r = begin; r < end; ++r) {
    if (masks[static_cast<std::size_t>(r)] == 0) continue;
    rows.push_back(static_cast<std::uint32_t>(r));
    head_mask.push_back(masks[static_cast<std::size_t>(r)]);
  }
  EXPECT_EQ(selection.rows, rows) << begin << " to " << end;
  EXPECT_EQ(selection.head_mask, head_mask) << begin << " to " << end;
}

}  // namespace tandem::testing
