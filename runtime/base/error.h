#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace tandem {

/// What kind of failure an Error reports; the C ABI maps each to one td_status.
enum class ErrorCode {
  invalid_argument,  ///< the caller's input: the message names the field, the value and what is allowed
  out_of_memory,     ///< the memory ledger or the system refused; the message carries both figures
  unsupported,       ///< valid, but this build or device has no code for it
  invalid_state,     ///< valid input at the wrong time: destroyed or busy sequence, closed runtime
  io,                ///< a file is missing, truncated or corrupt
  device_lost,       ///< an accelerator failed; the runtime is closed
};

const char* to_string(ErrorCode code) noexcept;

/// The only exception type that Tandem throws on purpose.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

/// Concatenates its arguments as operator<< prints them.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

/// Throws Error(code, concat(parts...)). For checks of the caller's input; our own bugs are asserts.
template <typename... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  throw Error(code, concat(parts...));
}

}  // namespace tandem

#define TANDEM_CHECK(condition, code, ...)                                    \
  do {                                                                        \
    if (!(condition)) ::tandem::fail(::tandem::ErrorCode::code, __VA_ARGS__); \
  } while (false)
