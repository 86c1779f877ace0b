#include "runtime/base/background.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Background, DoesTasksInTheirOrder) {
  std::vector<int> done;
  std::vector<std::shared_ptr<BackgroundTask>> tasks;
  BackgroundThread thread;
  for (int i = 0; i < 20; ++i) {
    tasks.push_back(std::make_shared<BackgroundTask>([&done, i] { done.push_back(i); }));
  }
  for (const auto& task : tasks) thread.submit(task);
  std::promise<void> end;
  const auto last = std::make_shared<BackgroundTask>([&] { end.set_value(); });
  thread.submit(last);
  end.get_future().wait();
  ASSERT_EQ(done.size(), 20u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
}

TEST(Background, WhoeverNeedsATaskThatWaitsDoesIt) {
  BackgroundThread thread;
  std::promise<void> begun, release;
  const auto busy = std::make_shared<BackgroundTask>([&] {
    begun.set_value();
    release.get_future().wait();
  });
  thread.submit(busy);
  begun.get_future().wait();
  std::thread::id ran_on;
  const auto wanted = std::make_shared<BackgroundTask>([&] { ran_on = std::this_thread::get_id(); });
  thread.submit(wanted);
  wanted->finish();
  EXPECT_EQ(ran_on, std::this_thread::get_id());
  release.set_value();
  busy->finish();
}

TEST(Background, RunsATaskOnceHoweverManyWantIt) {
  std::atomic<int> runs{0};
  BackgroundThread thread;
  for (int round = 0; round < 50; ++round) {
    runs = 0;
    const auto task = std::make_shared<BackgroundTask>([&] { runs.fetch_add(1); });
    thread.submit(task);
    std::vector<std::jthread> takers;
    for (int t = 0; t < 3; ++t) takers.emplace_back([&] { task->finish(); });
    takers.clear();
    EXPECT_EQ(runs, 1);
  }
}

TEST(Background, CarriesAnExceptionToEveryTaker) {
  BackgroundThread thread;
  const auto task = std::make_shared<BackgroundTask>([] { throw std::runtime_error("no"); });
  thread.submit(task);
  EXPECT_THROW(task->finish(), std::runtime_error);
  EXPECT_THROW(task->finish(), std::runtime_error);
}

TEST(Background, ForgetsWhatNobodyWants) {
  std::atomic<int> runs{0};
  {
    BackgroundThread thread;
    std::promise<void> begun, release;
    const auto busy = std::make_shared<BackgroundTask>([&] {
      begun.set_value();
      release.get_future().wait();
    });
    thread.submit(busy);
    begun.get_future().wait();
    thread.submit(std::make_shared<BackgroundTask>([&] { runs.fetch_add(1); }));
    const auto kept = std::make_shared<BackgroundTask>([&] { runs.fetch_add(100); });
    thread.submit(kept);
    release.set_value();
    busy->finish();  // it uses the promises, which go before the thread does
    kept->finish();
  }
  EXPECT_EQ(runs, 100);
}

TEST(Background, EndsWithTasksWaiting) {
  std::vector<std::shared_ptr<BackgroundTask>> tasks;
  std::atomic<int> runs{0};
  {
    BackgroundThread thread;
    for (int i = 0; i < 1000; ++i) {
      tasks.push_back(std::make_shared<BackgroundTask>([&] { runs.fetch_add(1); }));
      thread.submit(tasks.back());
    }
  }
  const int by_thread = runs;
  for (const auto& task : tasks) task->finish();
  EXPECT_LE(by_thread, 1000);
  EXPECT_EQ(runs, 1000);
}

TEST(Background, TasksKeepTheFloatingPointModesOfTheirMaker) {
  BackgroundThread thread;
  const int before = std::fegetround();
  std::fesetround(FE_UPWARD);
  int seen = -1;
  const auto task = std::make_shared<BackgroundTask>([&] { seen = std::fegetround(); });
  std::fesetround(before);
  thread.submit(task);
  task->finish();
  EXPECT_EQ(seen, FE_UPWARD);
  EXPECT_EQ(std::fegetround(), before);
}

}  // namespace
}  // namespace tandem
