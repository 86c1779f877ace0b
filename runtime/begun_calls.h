#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace tandem {

/// Calls that were begun and are waited for later: one thread runs them, one after another, in the order in which they
/// were begun. It starts with the first one. Thread-safe.
class BegunCalls {
 public:
  BegunCalls() = default;
  /// Runs what was begun to its end.
  ~BegunCalls();
  BegunCalls(const BegunCalls&) = delete;
  BegunCalls& operator=(const BegunCalls&) = delete;

  /// The number by which the call is waited for; never 0. Throws std::bad_alloc or std::system_error, and then nothing
  /// was begun.
  std::uint64_t begin(std::function<void()> call);
  /// Returns when the call has ended, and forgets it; rethrows what it threw. Throws Error(invalid_state) for a number
  /// that was not given or has been waited for, or is being.
  void wait(std::uint64_t number);
  /// Whether wait() would return at once. Throws likewise.
  bool has_ended(std::uint64_t number);

 private:
  struct Call {
    std::function<void()> work;
    std::exception_ptr error;
    bool ended = false;
    bool waited_for = false;
  };
  /// The call of `number`, for nobody else to wait for. With the lock held.
  Call& find(std::uint64_t number);
  void serve() noexcept;

  std::mutex mutex_;  // of what follows
  std::condition_variable begun_, ended_;
  std::map<std::uint64_t, Call> calls_;  // nodes stay where they are
  std::deque<std::uint64_t> queue_;
  std::uint64_t next_ = 1;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tandem
