#include "numa/placement.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::numa {
namespace {

class Placement : public testing::TestWithParam<std::tuple<int /*nodes*/, int /*num_kv_heads*/>> {
 protected:
  PlacementPolicy policy_{std::get<0>(GetParam()), std::get<1>(GetParam())};

  [[nodiscard]] std::vector<int> load(std::int64_t num_layers, std::int64_t num_sequences) const {
    std::vector<int> heads(static_cast<std::size_t>(policy_.num_nodes));
    for (std::int64_t layer = 0; layer < num_layers; ++layer)
      for (std::int64_t sequence = 0; sequence < num_sequences; ++sequence)
        for (int head = 0; head < policy_.num_kv_heads; ++head)
          ++heads.at(static_cast<std::size_t>(policy_.node_of(layer, sequence, head)));
    return heads;
  }
};

int spread(const std::vector<int>& load) {
  const auto [least, most] = std::minmax_element(load.begin(), load.end());
  return *most - *least;
}

TEST_P(Placement, EveryLayerUsesAllNodesEvenly) { EXPECT_LE(spread(load(1, 1)), 1); }

TEST_P(Placement, TheRemainderMovesRoundWithLayerAndSequence) {
  EXPECT_EQ(spread(load(policy_.num_nodes, 1)), 0);
  EXPECT_EQ(spread(load(1, policy_.num_nodes)), 0);
  EXPECT_EQ(spread(load(3, 2 * policy_.num_nodes)), 0);
}

TEST_P(Placement, HeadsOfANodeAreContiguous) {
  for (int layer = 0; layer < 3; ++layer) {
    int changes = 0;  // between neighbouring heads
    for (int head = 1; head < policy_.num_kv_heads; ++head)
      changes += policy_.node_of(layer, 0, head) != policy_.node_of(layer, 0, head - 1) ? 1 : 0;
    EXPECT_EQ(changes, std::min(policy_.num_nodes, policy_.num_kv_heads) - 1);
  }
}

TEST_P(Placement, HoldsForTheLargestNumbers) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  for (int head = 0; head < policy_.num_kv_heads; ++head) {
    const int node = policy_.node_of(kMost, kMost, head);
    EXPECT_GE(node, 0);
    EXPECT_LT(node, policy_.num_nodes);
  }
}

TEST_P(Placement, HeadsMoveRoundOnlyWhenThereIsARemainder) {
  const bool even = policy_.num_kv_heads % policy_.num_nodes == 0;
  for (int head = 0; head < policy_.num_kv_heads; ++head) {
    EXPECT_EQ(policy_.node_of(1, 0, head) == policy_.node_of(0, 0, head), even);
    EXPECT_EQ(policy_.node_of(0, 1, head) == policy_.node_of(0, 0, head), even);
  }
}

INSTANTIATE_TEST_SUITE_P(NodesAndHeads, Placement,
                         testing::Combine(testing::Values(1, 2, 3, 4, 8), testing::Values(1, 2, 3, 4, 5, 8, 32)));

}  // namespace
}  // namespace tandem::numa
