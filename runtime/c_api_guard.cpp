#include "runtime/c_api_guard.h"

#include <string>

namespace tandem {
namespace {

thread_local std::string message_of_last_error;

}  // namespace

td_status status_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
      return TD_EINVAL;
    case ErrorCode::out_of_memory:
      return TD_ENOMEM;
    case ErrorCode::unsupported:
      return TD_EUNSUPPORTED;
    case ErrorCode::invalid_state:
      return TD_ESTATE;
    case ErrorCode::io:
      return TD_EIO;
    case ErrorCode::device_lost:
      return TD_EDEVICE;
  }
  return TD_EINTERNAL;
}

td_status failed(td_status status, const char* message) noexcept {
  try {
    message_of_last_error = message;
  } catch (...) {
    message_of_last_error.clear();
  }
  return status;
}

const char* last_error() noexcept { return message_of_last_error.c_str(); }

}  // namespace tandem
