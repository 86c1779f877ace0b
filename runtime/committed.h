#pragma once

#include <new>

#include "runtime/base/error.h"

namespace tandem {

/// Runs what cannot be taken back once it has begun. Whatever is known to need memory has reserved it before; where the
/// system refuses some all the same, what was to change is in no stated state, so that the runtime has to close: throws
/// Error(device_lost) then.
template <typename Change>
void committed(const Change& change) {
  try {
    change();
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::device_lost, "the system refused memory in the middle of a change; the runtime is closed");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    fail(ErrorCode::device_lost, "in the middle of a change, which closes the runtime: ", error.what());
  }
}

}  // namespace tandem
