#include "tools/tandem/options.h"

#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

TEST(SplitList, KeepsEveryPart) {
  using Parts = std::vector<std::string>;
  EXPECT_EQ(split_list("1,2,8"), (Parts{"1", "2", "8"}));
  EXPECT_EQ(split_list("4K"), Parts{"4K"});
  EXPECT_EQ(split_list(""), Parts{""});
  EXPECT_EQ(split_list(",a,,"), (Parts{"", "a", "", ""}));
}

}  // namespace
}  // namespace tandem::cli
