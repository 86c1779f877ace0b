#include "tools/tandem/interrupt.h"

#include <atomic>
#include <csignal>

#include "tools/tandem/temporary_path.h"

namespace tandem::cli {
namespace {

std::atomic<bool> interrupt_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

/// The second signal ends the process at once: not every library that we call returns in time to look at the flag.
extern "C" void on_interrupt(int signal) {
  if (!interrupt_flag.exchange(true, std::memory_order_relaxed)) return;
  remove_temporaries();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

void catch_interrupts() noexcept {
  std::signal(SIGINT, &on_interrupt);
  std::signal(SIGTERM, &on_interrupt);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() noexcept { return interrupt_flag.load(std::memory_order_relaxed); }

void check_interrupt() {
  if (interrupted()) throw Interrupted();
}

}  // namespace tandem::cli
