#include "runtime/step_stats.h"

#include <bit>

#include <gtest/gtest.h>

#include "tandem/tandem.h"

namespace tandem {
namespace {

using Fields = std::array<std::int64_t, sizeof(StepStats) / 8>;  // every field has 8 bytes

TEST(StepStats, AddUpEveryField) {
  Fields fields;
  for (std::size_t i = 0; i < fields.size(); ++i)  // as doubles all of these are a little above 1
    fields[i] = std::bit_cast<std::int64_t>(1.0) + static_cast<std::int64_t>(i + 1);
  StepStats total;
  total += std::bit_cast<StepStats>(fields);
  EXPECT_EQ(std::bit_cast<Fields>(total), fields);
}

TEST(StepStats, FiguresAreThoseOfTheCInterface) {
  StepStats stats;
  td_stats c{};
  int figures = 0;
  for_each_figure(stats, c, [&](auto& own, auto& other) {
    static_assert(std::is_same_v<decltype(own), double&> == std::is_same_v<decltype(other), double&>);
    ++figures;
  });
  EXPECT_EQ(sizeof(td_stats), 8 + sizeof(c.us) + sizeof(c.bytes) + static_cast<std::size_t>(figures) * 8);
}

}  // namespace
}  // namespace tandem
