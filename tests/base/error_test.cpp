#include "runtime/base/error.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Error, CarriesCodeAndText) {
  try {
    fail(ErrorCode::io, "file ", 3, " of ", 2.5, ' ', "is short");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_STREQ(error.what(), "file 3 of 2.5 is short");
    return;
  }
  FAIL() << "fail() returned";
}

TEST(Error, EveryCodeHasItsOwnName) {
  std::set<std::string> names;
  for (const ErrorCode code : {ErrorCode::invalid_argument, ErrorCode::out_of_memory, ErrorCode::unsupported,
                               ErrorCode::invalid_state, ErrorCode::io, ErrorCode::device_lost}) {
    names.insert(to_string(code));
  }
  EXPECT_EQ(names.size(), 6u);
  EXPECT_FALSE(names.contains(to_string(static_cast<ErrorCode>(99))));
}

TEST(Error, CheckEvaluatesItsMessageOnlyOnFailure) {
  int evaluated = 0;
  const auto message = [&] { return ++evaluated; };
  TANDEM_CHECK(true, invalid_argument, message());
  EXPECT_EQ(evaluated, 0);
  EXPECT_THROW(TANDEM_CHECK(false, invalid_argument, message()), Error);
  EXPECT_EQ(evaluated, 1);
}

}  // namespace
}  // namespace tandem
