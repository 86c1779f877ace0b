#pragma once

#include <string>

#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace tandem::testing {

/// What `call` says when it throws an Error, which must be of this code; "accepted" if it does not throw.
template <typename Call>
std::string error_message(const Call& call, ErrorCode code = ErrorCode::invalid_argument) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}

}  // namespace tandem::testing
