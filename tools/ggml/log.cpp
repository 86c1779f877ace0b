#include "tools/ggml/log.h"

#include <atomic>
#include <cstdio>

#include "tandem/tandem.h"

namespace tandem::ggml {
namespace {

std::atomic<LogLevel> lowest_shown{LogLevel::warning};

void log_of_library(int level, const char* message, void* /*user*/) { log(static_cast<LogLevel>(level), message); }

}  // namespace

void show_messages_from(LogLevel lowest) noexcept { lowest_shown.store(lowest, std::memory_order_relaxed); }

void show_messages_of_library() noexcept { td_set_log(&log_of_library, nullptr); }

void log(LogLevel level, const std::string& message) noexcept {
  if (level < lowest_shown.load(std::memory_order_relaxed)) return;
  std::fprintf(stderr, "tandem-ggml: %s\n", message.c_str());  // one call: lines of several threads stay whole
}

}  // namespace tandem::ggml
