#include "runtime/partial_tree.h"

#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/random.h"

namespace tandem {
namespace {

/// Partials of ranges [0, count), two vectors of three dimensions each.
std::vector<std::vector<float>> random_ranges(std::int64_t count) {
  CounterRandom random(3, 1);
  std::vector<std::vector<float>> ranges(static_cast<std::size_t>(count));
  for (auto& range : ranges) {
    for (int i = 0; i < 8; ++i) range.push_back(static_cast<float>(random.normal()));
  }
  return ranges;
}

PartialAttention view(std::vector<float>& range) { return {range.data(), range.data() + 6, 2, 3}; }

/// The root over the ranges [first, last), in subtrees of 2^level of them.
std::vector<float> root(std::vector<std::vector<float>> ranges, std::int64_t first, std::int64_t last, int level) {
  PartialTree whole;
  for (std::int64_t index = first >> level; index << level < last; ++index) {
    PartialTree part;
    for (std::int64_t r = std::max(first, index << level); r < std::min(last, (index + 1) << level); ++r)
      part.add(view(ranges[static_cast<std::size_t>(r)]), r, 0);
    whole.add(part.finish(), index, level);
  }
  const PartialAttention result = whole.finish();
  return {result.out, result.out + 8};
}

TEST(PartialTree, BitsDoNotDependOnWhoComputesWhichSubtree) {
  for (const std::int64_t count : {1, 2, 3, 5, 8, 13, 16, 21}) {
    const auto ranges = random_ranges(count);
    for (const std::int64_t first : {0, 1, 3, 5, 6}) {
      if (first >= count) continue;
      const auto expected = root(ranges, first, count, 0);
      for (int level = 1; level < 6; ++level) EXPECT_EQ(root(ranges, first, count, level), expected);
    }
  }
}

TEST(PartialTree, EmptyRangesAtEitherEndDoNotChangeBits) {
  auto ranges = random_ranges(13);
  for (const std::size_t r : {0, 1, 2, 11, 12}) set_empty(view(ranges[r]));
  EXPECT_EQ(root(ranges, 0, 13, 0), root(ranges, 3, 11, 0));
  EXPECT_EQ(root(ranges, 1, 12, 2), root(ranges, 3, 11, 1));
}

TEST(PartialTree, NothingIsEmpty) { EXPECT_EQ(PartialTree().finish().rows, 0); }

}  // namespace
}  // namespace tandem
