#include "tools/tandem/parallel.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "tools/tandem/interrupt.h"

namespace tandem::cli {
namespace {

/// The tasks still to do, shared by the workers and the thread that waits for them.
class TaskList {
 public:
  TaskList(std::int64_t count, const std::function<void(std::int64_t)>& task) : count_(count), task_(task) {}

  /// Runs tasks until none is left, one has failed, or the user interrupts.
  void work() {
    for (std::int64_t i = take(); i < count_; i = take()) {
      try {
        task_(i);
        const std::lock_guard lock(mutex_);
        ++done_;
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      changed_.notify_one();
    }
  }

  /// Keeps `progress` up to date until every task is done or one has failed. Throws Interrupted after Ctrl-C.
  void watch(Progress& progress) {
    std::unique_lock lock(mutex_);
    std::int64_t shown = 0;
    while (shown < count_ && !error_) {
      if (done_ == shown) changed_.wait_for(lock, std::chrono::milliseconds(50));
      progress.advance(done_ - shown);
      shown = done_;
    }
  }

  [[nodiscard]] std::exception_ptr error() const { return error_; }

 private:
  std::int64_t take() {
    const std::lock_guard lock(mutex_);
    return error_ || interrupted() ? count_ : next_ < count_ ? next_++ : count_;
  }

  const std::int64_t count_;
  const std::function<void(std::int64_t)>& task_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::int64_t next_ = 0;
  std::int64_t done_ = 0;
  std::exception_ptr error_;
};

}  // namespace

void parallel_for(std::int64_t count, int threads, Progress& progress, const std::function<void(std::int64_t)>& task) {
  TaskList tasks(count, task);
  {
    std::vector<std::jthread> workers;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(threads, count); ++i)
      workers.emplace_back([&tasks] { tasks.work(); });
    tasks.watch(progress);
  }
  if (tasks.error()) std::rethrow_exception(tasks.error());
}

}  // namespace tandem::cli
