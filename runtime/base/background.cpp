#include "runtime/base/background.h"

#include <system_error>
#include <utility>

namespace tandem {

BackgroundTask::BackgroundTask(std::function<void()> work) : work_(std::move(work)) { std::fegetenv(&modes_); }

void BackgroundTask::run() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::waiting) return;
    state_ = State::running;
  }
  std::exception_ptr error;
  std::fenv_t before;
  std::fegetenv(&before);
  std::fesetenv(&modes_);
  try {
    work_();
  } catch (...) {
    error = std::current_exception();
  }
  std::fesetenv(&before);
  work_ = nullptr;  // and with it, whatever only the work needed
  const std::lock_guard lock(mutex_);
  state_ = State::done;
  error_ = std::move(error);
  ended_.notify_all();
}

void BackgroundTask::finish() {
  run();
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [this] { return state_ == State::done; });
  if (error_) std::rethrow_exception(error_);
}

BackgroundThread::~BackgroundThread() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  submitted_.notify_one();
}  // thread_, the last member, is joined first of all

void BackgroundThread::submit(std::weak_ptr<BackgroundTask> task) {
  const std::lock_guard lock(mutex_);
  if (!thread_.joinable()) {
    try {
      thread_ = std::jthread([this] { serve(); });
    } catch (const std::system_error&) {
      return;
    }
  }
  queue_.push_back(std::move(task));
  submitted_.notify_one();
}

void BackgroundThread::serve() noexcept {
  std::unique_lock lock(mutex_);
  while (true) {
    submitted_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    std::weak_ptr<BackgroundTask> next = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    if (const std::shared_ptr<BackgroundTask> task = next.lock()) task->run();
    lock.lock();
  }
}

}  // namespace tandem
