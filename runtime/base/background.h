#pragma once

#include <cfenv>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace tandem {

/// Work that is done once: by a BackgroundThread when it comes to it, or by whoever needs it before that.
///
/// It runs with the floating-point modes of the thread that made it, so its bits do not depend on who runs it.
/// Thread-safe.
class BackgroundTask {
 public:
  explicit BackgroundTask(std::function<void()> work);
  ~BackgroundTask() = default;
  BackgroundTask(const BackgroundTask&) = delete;
  BackgroundTask& operator=(const BackgroundTask&) = delete;

  /// Does the work if nobody has begun it; returns at once otherwise.
  void run() noexcept;
  /// Does the work if nobody has begun it; otherwise waits for its end. Rethrows what the work threw, to every caller.
  void finish();

 private:
  enum class State { waiting, running, done };

  std::function<void()> work_;
  std::fenv_t modes_;
  std::mutex mutex_;  // of what follows
  std::condition_variable ended_;
  State state_ = State::waiting;
  std::exception_ptr error_;
};

/// One thread that does tasks in the order in which they were submitted. It starts with the first one. Its priority is
/// ordinary: one that waits for a task must not wait for everybody else's work too. Thread-safe.
class BackgroundThread {
 public:
  BackgroundThread() = default;
  /// Waits for the task that runs, if any; those that have not begun are forgotten.
  ~BackgroundThread();
  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

  /// A task that its owners have let go of before it begins is passed over. When the system refuses a thread, tasks
  /// wait for those who need them.
  void submit(std::weak_ptr<BackgroundTask> task);

 private:
  void serve() noexcept;

  std::mutex mutex_;  // of what follows
  std::condition_variable submitted_;
  std::deque<std::weak_ptr<BackgroundTask>> queue_;
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace tandem
