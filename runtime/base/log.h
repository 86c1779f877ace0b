#pragma once

#include <functional>
#include <string>

namespace tandem {

enum class LogLevel { debug = 0, info = 1, warning = 2 };

/// Receives every message of the library. It may be called from any thread and must not throw.
using LogHook = std::function<void(LogLevel, const std::string&)>;

/// Replaces the one hook of the process; an empty hook (the default) is silence. Thread-safe.
void set_log_hook(LogHook hook);

/// Hands `message` to the hook. Library code never prints. Thread-safe.
void log(LogLevel level, const std::string& message) noexcept;

}  // namespace tandem
