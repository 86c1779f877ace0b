#pragma once

#include <stdexcept>

namespace tandem::cli {

/// The user pressed Ctrl-C (or the process got SIGTERM).
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("interrupted") {}
};

/// From now on the first SIGINT or SIGTERM only raises a flag. The second ends the process and takes every
/// TemporaryPath along, so that files are written whole or not at all. SIGXFSZ does nothing: a write beyond the limit
/// of a file's size fails, as on a full disk.
void catch_interrupts() noexcept;

/// For loops on worker threads, which must not throw.
bool interrupted() noexcept;

/// Throws Interrupted when the flag is up. Every loop that may take long calls it.
void check_interrupt();

}  // namespace tandem::cli
