#pragma once

#include <string>

namespace tandem::ggml {

/// What stderr gets: messages of at least this level. The values are those of td_log_fn, and one for the plugin's own
/// failures, which are always shown.
enum class LogLevel { debug = 0, info = 1, warning = 2, error = 3 };

/// Messages below `lowest` are not shown; by default those below warning. Also sends libtandem's messages here.
void show_messages_from(LogLevel lowest) noexcept;

/// One line to stderr, "tandem-ggml: message". Thread-safe.
void log(LogLevel level, const std::string& message) noexcept;

}  // namespace tandem::ggml
