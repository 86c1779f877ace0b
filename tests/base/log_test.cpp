#include "runtime/base/log.h"

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Log, IsSilentByDefaultAndAfterTheHookIsRemoved) {
  log(LogLevel::warning, "nobody listens");
  int heard = 0;
  set_log_hook([&](LogLevel, const std::string&) { ++heard; });
  set_log_hook({});
  log(LogLevel::warning, "nobody listens");
  EXPECT_EQ(heard, 0);
}

TEST(Log, PassesLevelAndText) {
  std::vector<std::pair<LogLevel, std::string>> heard;
  set_log_hook([&](LogLevel level, const std::string& text) { heard.emplace_back(level, text); });
  log(LogLevel::debug, "a");
  log(LogLevel::info, "");
  log(LogLevel::warning, "c");
  set_log_hook({});
  const std::vector<std::pair<LogLevel, std::string>> expected{
      {LogLevel::debug, "a"}, {LogLevel::info, ""}, {LogLevel::warning, "c"}};
  EXPECT_EQ(heard, expected);
}

TEST(Log, AHookMayReplaceItself) {
  int heard = 0;
  set_log_hook([&](LogLevel, const std::string&) {
    ++heard;
    set_log_hook({});
  });
  log(LogLevel::info, "first");
  log(LogLevel::info, "second");
  EXPECT_EQ(heard, 1);
}

TEST(Log, HookIsReplacedWhileMessagesComeFromThreads) {
  constexpr int kThreads = 3;
  constexpr int kMessages = 5000;
  std::atomic<int> heard{0};
  std::atomic<int> wrong{0};
  const auto hook = [&heard, &wrong](std::string owner) {
    return [&heard, &wrong, owner = std::move(owner)](LogLevel, const std::string& text) {
      heard.fetch_add(1);
      if (text != "message" || owner.size() != 40) wrong.fetch_add(1);  // a hook that was freed too early shows here
    };
  };
  set_log_hook(hook(std::string(40, 'x')));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < kMessages; ++i) log(LogLevel::info, "message");
    });
  }
  for (int i = 0; i < 2000; ++i) set_log_hook(hook(std::string(40, 'y')));
  for (auto& thread : threads) thread.join();
  set_log_hook({});
  EXPECT_EQ(heard, kThreads * kMessages);  // some hook is always set, so none is lost
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace tandem
