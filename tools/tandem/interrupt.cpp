#include "tools/tandem/interrupt.h"

#include <atomic>
#include <csignal>

namespace tandem::cli {
namespace {

std::atomic<bool> interrupt_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

/// The second signal ends the process at once: not every library that we call returns in time to look at the flag.
extern "C" void raise_interrupt_flag(int /*signal*/) {
  interrupt_flag.store(true, std::memory_order_relaxed);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

void catch_interrupts() noexcept {
  std::signal(SIGINT, &raise_interrupt_flag);
  std::signal(SIGTERM, &raise_interrupt_flag);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() noexcept { return interrupt_flag.load(std::memory_order_relaxed); }

void check_interrupt() {
  if (interrupted()) throw Interrupted();
}

}  // namespace tandem::cli
