#pragma once

#include <exception>
#include <new>

#include "runtime/base/error.h"
#include "tandem/tandem.h"

namespace tandem {

td_status status_of(ErrorCode code) noexcept;

/// Keeps `message` as this thread's last error; returns `status`.
td_status failed(td_status status, const char* message) noexcept;

/// Of this thread's last failing call; never NULL.
const char* last_error() noexcept;

/// Runs `body`; what it throws becomes a status.
template <typename Body>
td_status guarded(Body&& body) noexcept {
  try {
    body();
    return TD_OK;
  } catch (const Error& error) {
    return failed(status_of(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(TD_ENOMEM, "the system refused memory");
  } catch (const std::exception& error) {
    return failed(TD_EINTERNAL, error.what());
  } catch (...) {
    return failed(TD_EINTERNAL, "unknown failure");
  }
}

}  // namespace tandem
