#include "fibers.h"

#include <atomic>
#include <memory>
#include <utility>

#include "sanitizers.h"

namespace emulator {
namespace {

#if defined(EMULATOR_ASAN) || defined(EMULATOR_TSAN)
constexpr std::size_t kStackBytes = std::size_t{256} << 10;
#else
constexpr std::size_t kStackBytes = std::size_t{64} << 10;
#endif

constexpr std::size_t kStackColours = 13;
constexpr std::size_t kStackColourBytes = 9 * 64;

std::atomic<std::uint64_t> all_switches{0};

/// Fibers own their stacks, so Boost has none to free.
struct BorrowedStack {
  void deallocate(boost::context::stack_context&) noexcept {}
};

}  // namespace

Fibers::Fibers(std::function<int(int)> run) : run_(std::move(run)) {
#if defined(EMULATOR_TSAN)
  thread_.thread_sanitizer = __tsan_get_current_fiber();
#endif
}

Fibers::~Fibers() {
#if defined(EMULATOR_TSAN)
  // A fiber that returns leaves functions that the sanitizer has seen it enter, on behalf of the thread: it would take
  // them off the thread's own calls. So none does, and what Boost would unwind is left behind.
  for (int i = 0; i < count(); ++i) {
    new boost::context::fiber(std::move(at(i).context));
    __tsan_destroy_fiber(at(i).thread_sanitizer);
  }
#else
  ending_ = true;
  for (int i = 0; i < count(); ++i) switch_to(i);
#endif
}

void Fibers::grow(int wanted) {
  for (int i = count(); i < wanted; ++i) {
    Fiber& fiber = *fibers_.emplace_back(std::make_unique<Fiber>());
    fiber.memory.reset(new std::byte[kStackBytes]);
    fiber.stack = fiber.memory.get();
    // Stacks that all end at the same place in a page would share a few sets of the caches.
    fiber.stack_bytes = kStackBytes - static_cast<std::size_t>(i) % kStackColours * kStackColourBytes;
    boost::context::stack_context stack;
    stack.size = fiber.stack_bytes;
    stack.sp = fiber.memory.get() + fiber.stack_bytes;
    fiber.context = boost::context::fiber(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack),
                                          BorrowedStack{},
                                          [this, i](boost::context::fiber&& from) { return main(i, std::move(from)); });
#if defined(EMULATOR_TSAN)
    fiber.thread_sanitizer = __tsan_create_fiber(0);
#endif
  }
}

boost::context::fiber Fibers::main(int fiber, boost::context::fiber&& from) {
  after_switch(std::move(from));
  while (!ending_) {
    const int next = run_(fiber);
    if (next != fiber) switch_to(next);
  }
  before_switch(thread_, true);
  return std::move(thread_.context);
}

void Fibers::switch_to(int fiber) {
  Fiber& next = at(fiber);
  before_switch(next, false);
  after_switch(std::move(next.context).resume());
}

std::uint64_t Fibers::switches() { return all_switches; }
void Fibers::count_switches() { all_switches += std::exchange(switches_, 0); }

#if defined(EMULATOR_TSAN)
__attribute__((no_sanitize("thread")))  // it is entered by one fiber and left by the next, as the sanitizer sees it
#endif
void Fibers::before_switch(Fiber& next, [[maybe_unused]] bool ends) {
#if defined(EMULATOR_ASAN)
  __sanitizer_start_switch_fiber(ends ? nullptr : &active_->fake_stack, next.stack, next.stack_bytes);
#endif
  previous_ = active_;
  active_ = &next;
  ++switches_;
#if defined(EMULATOR_TSAN)
  __tsan_switch_to_fiber(next.thread_sanitizer, 0);
#endif
}

void Fibers::after_switch(boost::context::fiber&& from) {
#if defined(EMULATOR_ASAN)
  // The first switch away from the thread is how its stack becomes known.
  __sanitizer_finish_switch_fiber(active_->fake_stack, &previous_->stack, &previous_->stack_bytes);
#endif
  previous_->context = std::move(from);
}

}  // namespace emulator
