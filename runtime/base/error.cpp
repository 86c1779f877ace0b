#include "runtime/base/error.h"

namespace tandem {

const char* to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid argument";
    case ErrorCode::out_of_memory:
      return "out of memory";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::invalid_state:
      return "invalid state";
    case ErrorCode::io:
      return "io";
    case ErrorCode::device_lost:
      return "device lost";
  }
  return "unknown";
}

}  // namespace tandem
