#include "runtime/begun_calls.h"

#include <utility>

#include "runtime/base/error.h"

namespace tandem {

BegunCalls::~BegunCalls() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  begun_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::uint64_t BegunCalls::begin(std::function<void()> call) {
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
    number = next_;
    calls_.emplace(number, Call{std::move(call), nullptr});
    try {
      queue_.push_back(number);
    } catch (...) {
      calls_.erase(number);
      throw;
    }
    ++next_;
  }
  begun_.notify_one();
  return number;
}

BegunCalls::Call& BegunCalls::find(std::uint64_t number) {
  const auto it = calls_.find(number);
  TANDEM_CHECK(it != calls_.end() && !it->second.waited_for, invalid_state, "call ", number,
               " was not begun, or has been waited for");
  return it->second;
}

void BegunCalls::wait(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  Call& call = find(number);
  call.waited_for = true;
  ended_.wait(lock, [&] { return call.ended; });
  const std::exception_ptr error = call.error;
  calls_.erase(number);
  if (error) std::rethrow_exception(error);
}

bool BegunCalls::has_ended(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  return find(number).ended;
}

void BegunCalls::serve() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    begun_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Call& call = calls_.find(queue_.front())->second;
    queue_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      call.work();
    } catch (...) {
      error = std::current_exception();
    }
    call.work = nullptr;  // what it holds goes before the call has ended
    lock.lock();
    call.error = error;
    call.ended = true;
    ended_.notify_all();
  }
}

}  // namespace tandem
