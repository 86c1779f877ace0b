#include "runtime/base/timeline.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/base/error.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Timelines : public ::testing::Test {
 protected:
  Timelines() { fs::create_directory(folder); }
  ~Timelines() override { fs::remove_all(folder); }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder / name).string(); }
  [[nodiscard]] json read() const { return json::parse(std::ifstream(path("t.json"))); }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }

  fs::path folder = fs::path(::testing::TempDir()) /
                    (std::string("tandem-") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

std::vector<json> named(const json& events, const std::string& name) {
  std::vector<json> found;
  for (const json& event : events)
    if (event.at("name") == name) found.push_back(event);
  return found;
}

std::int64_t dropped(const json& events) {
  return named(events, "tandem_timeline").at(0).at("args").at("dropped_spans").get<std::int64_t>();
}

void record(Timeline& timeline, const char* name, std::int64_t call) {
  const TimelineSpan span(timeline, name, {.call = call});
}

void expect_error(ErrorCode code, const std::string& text, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "no error; expected: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

TEST_F(Timelines, SayWhatTheSteadyClockSaidAtTheirStart) {
  using std::chrono::nanoseconds;
  const auto ns = [](Span::Clock::time_point time) { return nanoseconds(time.time_since_epoch()).count(); };
  Timeline timeline(1);
  const auto before = Span::Clock::now();
  timeline.start(path("t.json"), 0);
  const auto begin = Span::Clock::now();
  timeline.record({"mine", begin, begin + nanoseconds(5000), {}});
  timeline.stop("device");
  const json events = read();
  const auto start_ns = named(events, "tandem_timeline").at(0).at("args").at("start_ns").get<std::int64_t>();
  EXPECT_GE(start_ns, ns(before));
  EXPECT_LE(start_ns, ns(begin));
  // Another's span at the same time would be put at the same place.
  EXPECT_NEAR(named(events, "mine").at(0).at("ts").get<double>(), 1e-3 * static_cast<double>(ns(begin) - start_ns),
              1e-3);
}

TEST_F(Timelines, HaveNestedSpansOfEachThread) {
  Timeline timeline(2);
  record(timeline, "before", 1);
  timeline.start(path("t.json"), 0);
  {
    TimelineSpan outer(timeline, "td_call", {.call = 2, .layer = 0});
    outer.subject.bytes = 77;
    const TimelineSpan inner(timeline, "inner", {.sequence = 5, .kv_head = 1, .position = 9, .rows = 3});
    std::thread([&] { record(timeline, "elsewhere", 2); }).join();
  }
  const auto now = Span::Clock::now();
  timeline.record_of_device({"batch", now, now + std::chrono::nanoseconds(1'002'003), {}});
  timeline.stop("device \"0\"");
  record(timeline, "after", 3);
  const json events = read();
  EXPECT_TRUE(named(events, "before").empty());
  EXPECT_EQ(dropped(events), 0);
  const json outer = named(events, "td_call").at(0), inner = named(events, "inner").at(0);
  EXPECT_EQ(outer.at("args"), json({{"call", 2}, {"layer", 0}, {"bytes", 77}}));
  EXPECT_EQ(inner.at("args"), json({{"sequence", 5}, {"kv_head", 1}, {"position", 9}, {"rows", 3}}));
  EXPECT_EQ(outer.at("tid"), inner.at("tid"));
  EXPECT_LE(outer.at("ts").get<double>(), inner.at("ts").get<double>());
  EXPECT_GE(outer.at("ts").get<double>() + outer.at("dur").get<double>(),
            inner.at("ts").get<double>() + inner.at("dur").get<double>());
  EXPECT_NE(named(events, "elsewhere").at(0).at("tid"), outer.at("tid"));
  EXPECT_DOUBLE_EQ(named(events, "batch").at(0).at("dur").get<double>(), 1002.003);
  std::vector<std::string> threads;
  for (const json& event : named(events, "thread_name")) threads.push_back(event.at("args").at("name"));
  EXPECT_EQ(threads, (std::vector<std::string>{"worker 1", "caller 1", "device \"0\""}));
  EXPECT_EQ(files(), 1u);
}

TEST_F(Timelines, KeepTheLatestSpansAndCountTheOthers) {
  Timeline timeline(1);
  timeline.start(path("t.json"), Timeline::kLeastSpans);
  constexpr std::int64_t kSpans = 5000;
  for (std::int64_t i = 0; i < kSpans; ++i) record(timeline, "s", i);
  timeline.stop("d");
  const json events = read();
  const auto kept = named(events, "s");
  EXPECT_GE(kept.size(), static_cast<std::size_t>(Timeline::kLeastSpans) / (1 + Timeline::kCallers + 1));
  EXPECT_LE(kept.size(), static_cast<std::size_t>(Timeline::kLeastSpans));
  EXPECT_EQ(dropped(events), kSpans - static_cast<std::int64_t>(kept.size()));
  EXPECT_EQ(kept.back().at("args").at("call"), kSpans - 1);
  EXPECT_EQ(kept.front().at("args").at("call"), dropped(events));
}

TEST_F(Timelines, CountTheSpansOfThreadsBeyondTheTracks) {
  Timeline timeline(1);
  timeline.start(path("t.json"), 0);
  constexpr int kThreads = 1 + Timeline::kCallers + 3;
  for (int t = 0; t < kThreads; ++t) std::thread([&] { record(timeline, "s", t); }).join();
  timeline.stop("d");
  EXPECT_EQ(named(read(), "s").size(), static_cast<std::size_t>(kThreads - 3));
  EXPECT_EQ(dropped(read()), 3);
}

TEST_F(Timelines, StartAndStopWhileOthersRecord) {
  Timeline timeline(2);
  std::atomic<bool> over = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!over) {
        const TimelineSpan outer(timeline, "outer", {});
        record(timeline, "inner", 1);
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    timeline.start(path("t.json"), Timeline::kLeastSpans);
    record(timeline, "round", round);
    timeline.stop("d");
    const json events = read();
    ASSERT_EQ(named(events, "round").size(), 1u);
    EXPECT_EQ(named(events, "round").at(0).at("args").at("call"), round);
    for (const json& event : events) {
      if (event.at("ph") == "X") {
        EXPECT_GE(event.at("ts").get<double>(), 0) << event;
      }
    }
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Timelines, RefuseWhatCannotBe) {
  Timeline timeline(1);
  expect_error(ErrorCode::invalid_state, "no timeline", [&] { timeline.stop("d"); });
  expect_error(ErrorCode::invalid_argument, "path is empty", [&] { timeline.start("", 0); });
  for (const std::int64_t spans : {std::int64_t{-1}, Timeline::kLeastSpans - 1, Timeline::kMostSpans + 1})
    expect_error(ErrorCode::invalid_argument, concat("max_spans is ", spans),
                 [&] { timeline.start(path("t.json"), spans); });
  expect_error(ErrorCode::io, path("no/t.json"), [&] { timeline.start(path("no/t.json"), 0); });
  expect_error(ErrorCode::io, folder.string(), [&] { timeline.start(folder.string(), 0); });
  EXPECT_EQ(files(), 0u);
  timeline.start(path("t.json"), 0);
  expect_error(ErrorCode::invalid_state, path("t.json"), [&] { timeline.start(path("u.json"), 0); });
  fs::create_directory(path("t.json"));  // meanwhile
  expect_error(ErrorCode::io, path("t.json"), [&] { timeline.stop("d"); });
  EXPECT_FALSE(timeline.is_on());
  EXPECT_EQ(files(), 1u);
}

/// nvtx_injection prints them where it is loaded, timeline or not: the test nvtx_ranges does that.
TEST(TimelineSpans, AreRangesOfAProfiler) {
  ::testing::internal::CaptureStderr();
  {
    Timeline timeline(1);
    const TimelineSpan outer(timeline, "outer", {});
    { const TimelineSpan inner(timeline, "inner", {}); }
    const TimelineSpan next(timeline, "next", {});
  }
  const bool is_profiled = std::getenv("NVTX_INJECTION64_PATH") != nullptr;
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), is_profiled ? "nvtx 0 outer\nnvtx 1 inner\nnvtx 1 next\n" : "");
}

TEST_F(Timelines, LeaveNothingBehindWhenNotStopped) {
  {
    Timeline timeline(1);
    timeline.start(path("t.json"), 0);
    EXPECT_EQ(files(), 1u);
  }
  EXPECT_EQ(files(), 0u);
}

}  // namespace
}  // namespace tandem
