#include "lsh/selector.h"

#include <limits>

#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace tandem::lsh {
namespace {

struct BadParams {
  SelectorParams params;
  const char* message;
};

class RefusedParams : public ::testing::TestWithParam<BadParams> {};

TEST_P(RefusedParams, NamesFieldValueAndWhatIsAllowed) {
  try {
    validate(GetParam().params);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_STREQ(error.what(), GetParam().message);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Selector, RefusedParams,
    ::testing::Values(
        BadParams{LshParams{0, 150, 2, 1}, "lsh_bits (K) is 0; allowed: 1 to 12"},
        BadParams{LshParams{13, 150, 2, 1}, "lsh_bits (K) is 13; allowed: 1 to 12"},
        BadParams{LshParams{10, 0, 2, 1}, "lsh_tables (L) is 0; allowed: 1 to 300"},
        BadParams{LshParams{10, 301, 2, 1}, "lsh_tables (L) is 301; allowed: 1 to 300"},
        BadParams{LshParams{10, 150, 3, 1}, "lsh_min_collisions is 3; allowed: 1 or 2, not above lsh_tables (150)"},
        BadParams{LshParams{10, 1, 2, 1}, "lsh_min_collisions is 2; allowed: 1 or 2, not above lsh_tables (1)"},
        BadParams{LshParams{10, 150, 2, 1, static_cast<cpu::HashPlanes>(2)},
                  "lsh_planes is 2; allowed: 0 (hadamard), 1 (gaussian)"},
        BadParams{LshParams{10, 150, 2, 1, {}, 64}, "lsh_shared_bits is 64; allowed: multiples of 64 from 128 to 2048"},
        BadParams{LshParams{10, 150, 2, 1, {}, 500},
                  "lsh_shared_bits is 500; allowed: multiples of 64 from 128 to 2048"},
        BadParams{LshParams{10, 150, 2, 1, {}, 2112},
                  "lsh_shared_bits is 2112; allowed: multiples of 64 from 128 to 2048"},
        BadParams{TopKParams{0.0}, "budget is 0; allowed: above 0, up to 1 (share of the host rows)"},
        BadParams{TopKParams{-0.5}, "budget is -0.5; allowed: above 0, up to 1 (share of the host rows)"},
        BadParams{TopKParams{1.01}, "budget is 1.01; allowed: above 0, up to 1 (share of the host rows)"}));

TEST(Selector, RefusesABudgetThatIsNotANumber) {
  EXPECT_THROW(validate(SelectorParams(TopKParams{std::numeric_limits<double>::quiet_NaN()})), Error);
}

TEST(Selector, KnowsWhatItIs) {
  EXPECT_TRUE(Selector(SelectAllParams{}, 64).selects_all());
  EXPECT_FALSE(Selector(TopKParams{0.1}, 64).estimates_error());
  const Selector lsh(LshParams{8, 75, 2, 3}, 64);
  EXPECT_TRUE(lsh.estimates_error());
  ASSERT_NE(lsh.hash(), nullptr);
  EXPECT_EQ(lsh.hash()->num_tables(), 75);
}

}  // namespace
}  // namespace tandem::lsh
