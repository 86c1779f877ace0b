#include "cpu/isa.h"

#include <algorithm>
#include <cstdlib>

#include <gtest/gtest.h>

#include "cpu/kernels.h"
#include "runtime/base/error.h"

namespace tandem::cpu {
namespace {

TEST(Isa, ScalarIsAlwaysThereAndEveryTableIsItsOwn) {
  const auto isas = available_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::scalar);
  for (const Isa isa : isas) EXPECT_EQ(kernels_for(isa).isa, isa);
}

TEST(Isa, NamesAreInTheOrderOfTheEnumerators) {
  const auto names = isa_names();
  EXPECT_EQ(names, (std::vector<std::string>{"scalar", "avx2", "avx512", "avx512vbmi"}));
  for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(names[i], to_string(static_cast<Isa>(i)));
  for (const Isa isa : available_isas()) EXPECT_EQ(choose_isa(to_string(isa)), isa);
}

TEST(Isa, TheRequestWinsOverTheVariable) {
  const char* before = std::getenv("TANDEM_ISA");
  const std::string saved = before == nullptr ? "" : before;
  setenv("TANDEM_ISA", "scalar", 1);
  EXPECT_EQ(choose_isa(std::nullopt), Isa::scalar);
  EXPECT_EQ(choose_isa(to_string(available_isas().back())), available_isas().back());
  setenv("TANDEM_ISA", "", 1);
  EXPECT_EQ(choose_isa(std::nullopt), available_isas().back());
  setenv("TANDEM_ISA", saved.c_str(), 1);
}

TEST(Isa, UnknownNamesAreNamed) {
  try {
    choose_isa("sse9");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_STREQ(error.what(), "isa is 'sse9'; allowed: scalar, avx2, avx512, avx512vbmi");
  }
}

}  // namespace
}  // namespace tandem::cpu
