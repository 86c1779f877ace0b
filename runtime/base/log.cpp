#include "runtime/base/log.h"

#include <memory>
#include <mutex>
#include <utility>

namespace tandem {
namespace {

std::mutex hook_mutex;
std::shared_ptr<const LogHook> current_hook;  // shared, so that a hook being replaced finishes its message first

}  // namespace

void set_log_hook(LogHook hook) {
  auto next = hook ? std::make_shared<const LogHook>(std::move(hook)) : nullptr;
  const std::lock_guard lock(hook_mutex);
  current_hook = std::move(next);
}

void log(LogLevel level, const std::string& message) noexcept {
  std::shared_ptr<const LogHook> hook;
  {
    const std::lock_guard lock(hook_mutex);
    hook = current_hook;
  }
  if (hook) (*hook)(level, message);
}

}  // namespace tandem
