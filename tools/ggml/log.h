#pragma once

#include <string>

namespace tandem::ggml {

/// What stderr gets: messages of at least this level. The values are those of td_log_fn, and one for the plugin's own
/// failures, which are always shown.
enum class LogLevel { debug = 0, info = 1, warning = 2, error = 3 };

/// Messages below `lowest` are not shown; by default those below warning.
void show_messages_from(LogLevel lowest) noexcept;

/// Sends libtandem's messages here: once it is certain that the plugin stays loaded.
void show_messages_of_library() noexcept;

/// One line to stderr, "tandem-ggml: message". Thread-safe.
void log(LogLevel level, const std::string& message) noexcept;

}  // namespace tandem::ggml
