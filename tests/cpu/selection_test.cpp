#include "cpu/selection.h"

#include <gtest/gtest.h>

namespace tandem::cpu {
namespace {

using Rows = std::vector<std::uint32_t>;

Selection selection_of(Rows rows, std::vector<std::uint64_t> masks, Rows sampled, std::vector<float> inclusion) {
  Selection selection;
  selection.rows = std::move(rows);
  selection.head_mask = std::move(masks);
  selection.sampled.rows = std::move(sampled);
  selection.sampled.inclusion = std::move(inclusion);
  return selection;
}

TEST(LeaveOut, TakesListedRowsWithWhatGoesWithThem) {
  Selection s = selection_of({0, 3, 4, 9, 12}, {1, 2, 3, 4, 5}, {1, 5, 7, 20}, {0.1f, 0.2f, 0.3f, 0.4f});
  leave_out(Rows{0, 2, 4, 5, 12, 20, 30}, s);
  EXPECT_EQ(s.rows, (Rows{3, 9}));
  EXPECT_EQ(s.head_mask, (std::vector<std::uint64_t>{2, 4}));
  EXPECT_EQ(s.sampled.rows, (Rows{1, 7}));
  EXPECT_EQ(s.sampled.inclusion, (std::vector<float>{0.1f, 0.3f}));
}

TEST(LeaveOut, LeavesListsWithoutMasksWithoutMasks) {
  Selection s = selection_of({2, 5, 6}, {}, {}, {});
  leave_out(Rows{5}, s);
  EXPECT_EQ(s.rows, (Rows{2, 6}));
  EXPECT_TRUE(s.head_mask.empty());
  EXPECT_TRUE(s.sampled.rows.empty());
}

TEST(LeaveOut, OfNothingOrFromNothingChangesNothing) {
  Selection s = selection_of({2, 5}, {7, 8}, {3}, {0.5f});
  for (const Rows& others : {Rows{}, Rows{0, 1, 4, 6}}) {
    leave_out(others, s);
    EXPECT_EQ(s.rows, (Rows{2, 5}));
    EXPECT_EQ(s.head_mask, (std::vector<std::uint64_t>{7, 8}));
    EXPECT_EQ(s.sampled.rows, (Rows{3}));
  }
  Selection empty;
  leave_out(Rows{1, 2}, empty);
  EXPECT_TRUE(empty.rows.empty());
}

TEST(LeaveOut, OfEverythingLeavesNothing) {
  Selection s = selection_of({0, 1, 2}, {1, 1, 1}, {4, 6}, {1.f, 0.5f});
  leave_out(Rows{0, 1, 2, 3, 4, 5, 6}, s);
  EXPECT_TRUE(s.rows.empty() && s.head_mask.empty() && s.sampled.rows.empty() && s.sampled.inclusion.empty());
}

}  // namespace
}  // namespace tandem::cpu
