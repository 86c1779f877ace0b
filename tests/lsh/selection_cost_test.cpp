// The cost model: laws of its choice, not its figures.
#include "lsh/selection_cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace tandem::lsh {
namespace {

constexpr std::int64_t kMost = 1 << 30;

cpu::RowLayout layout(int dim = 128, DType dtype = DType::bf16) {
  return cpu::RowLayout::of(resolved({1, 1, 1, dim, dim, 0.f, 0.f}), dtype);
}

bool pays(const SelectorParams& params, std::int64_t visible, const CostProfile& profile = {}, int group = 4) {
  return SelectionCost(profile, params, layout(), group).pays(visible);
}

TEST(SelectionCost, ShortContextsAreDenseAndLongOnesAreNot) {
  for (const SelectorParams& params : {SelectorParams(SketchParams{}), SelectorParams(SketchParams{.error = 0.1}),
                                       SelectorParams(SketchParams{.top_k = true}), SelectorParams(LshParams{})}) {
    for (const std::int64_t visible : {0, 1, 63, 64, 65, 128}) EXPECT_FALSE(pays(params, visible)) << visible;
    EXPECT_TRUE(pays(params, 1 << 20)) << params.index();
  }
}

TEST(SelectionCost, AllRowsAndWholeBudgetsNeverPay) {
  for (const SelectorParams& params : {SelectorParams(SelectAllParams{}), SelectorParams(TopKParams{1.0}),
                                       SelectorParams(SketchParams{.budget = 1.0})}) {
    for (std::int64_t visible = 1; visible < kMost; visible *= 3) EXPECT_FALSE(pays(params, visible)) << visible;
  }
}

TEST(SelectionCost, MoreRowsNeverTurnSelectionBackToDense) {
  for (const double scale : {0.01, 0.3, 1.0, 10.0}) {  // of the gathered row: dear and cheap gathers
    CostProfile profile;
    profile.gathered_row_ns *= scale;
    for (const double budget : {0.0001, 0.02, 0.1, 0.31, 0.5, 0.9, 1.0}) {
      for (const double error : {0.0, 0.1}) {
        for (const int group : {1, 4, 7, 64}) {
          bool before = false;
          for (std::int64_t visible = 1; visible < 200000; visible += 1 + visible / 64) {
            const bool now = pays(SketchParams{.budget = budget, .error = error}, visible, profile, group);
            EXPECT_TRUE(now || !before) << visible << " rows, budget " << budget << ", group " << group;
            before = now;
          }
        }
      }
    }
  }
}

TEST(SelectionCost, LargerBudgetsNeverTurnDenseIntoSelection) {
  for (std::int64_t visible = 64; visible < kMost; visible *= 2) {
    bool sketch = true;
    bool top_k = true;
    for (double budget = 0.001; budget <= 1; budget *= 1.1) {
      const bool sketch_now = pays(SketchParams{.budget = budget}, visible);
      const bool top_k_now = pays(TopKParams{budget}, visible);
      EXPECT_TRUE(sketch || !sketch_now) << visible << " rows, budget " << budget;
      EXPECT_TRUE(top_k || !top_k_now) << visible << " rows, budget " << budget;
      sketch = sketch_now;
      top_k = top_k_now;
    }
  }
}

TEST(SelectionCost, TheCrossoverIsTheFirstLengthThatPays) {
  const SelectionCost cost({}, SketchParams{}, layout(), 4);
  const std::int64_t first = cost.crossover(kMost);
  ASSERT_GT(first, 64);
  EXPECT_TRUE(cost.pays(first));
  EXPECT_FALSE(cost.pays(first - 1));
  EXPECT_LT(cost.select_ns(static_cast<double>(first)), cost.dense_ns(static_cast<double>(first)));
  EXPECT_EQ(cost.crossover(first - 1), -1);
  EXPECT_EQ(SelectionCost({}, SelectAllParams{}, layout(), 4).crossover(kMost), -1);
}

TEST(SelectionCost, RowsOfMoreBytesMakeDenseAttentionDearer) {
  const SelectionCost bf16({}, SketchParams{}, layout(128, DType::bf16), 4);
  const SelectionCost f32({}, SketchParams{}, layout(128, DType::f32), 4);
  EXPECT_DOUBLE_EQ(f32.dense_ns(100), 2 * bf16.dense_ns(100));
  EXPECT_LT(f32.crossover(kMost), bf16.crossover(kMost));
  EXPECT_GT(SelectionCost({}, SketchParams{}, layout(), 8).dense_ns(100), bf16.dense_ns(100));
}

TEST(SelectionCost, ExpectedShareIsThatOfIndependentBits) {
  EXPECT_DOUBLE_EQ(expected_share({.bits_per_table = 1, .num_tables = 1, .min_collisions = 1}, 0.5, 1), 0.5);
  EXPECT_DOUBLE_EQ(expected_share({.bits_per_table = 2, .num_tables = 2, .min_collisions = 2}, 0.5, 1), 1.0 / 16);
  EXPECT_DOUBLE_EQ(expected_share({.bits_per_table = 1, .num_tables = 1, .min_collisions = 1}, 0.5, 2), 0.75);
  EXPECT_GT(expected_share({}, 0.55, 4), expected_share({}, 0.5, 4));
}

TEST(CostProfile, BadValuesAreNamed) {
  validate(CostProfile{});
  for (const CostField& field : kCostFields) {
    for (const double bad : {0.0, -1.0, 1e300, std::numeric_limits<double>::quiet_NaN()}) {
      CostProfile profile;
      profile.*field.value = bad;
      try {
        validate(profile);
        ADD_FAILURE() << field.name << " " << bad;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
        EXPECT_THAT(error.what(), testing::HasSubstr(concat("profile.", field.name, " is ", bad, "; allowed: ")));
      }
    }
  }
}

}  // namespace
}  // namespace tandem::lsh
