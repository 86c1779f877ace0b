// The timeline of a runtime: what its spans say about who did what, and when.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/deferred_device.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Event {
  std::string name;
  std::int64_t tid, begin, end;  // nanoseconds
  json args;
};

std::int64_t ns(const json& us) { return std::llround(us.get<double>() * 1000); }

/// What three layers did in two steps of two sequences, after a prompt.
class RuntimeTimeline : public ::testing::TestWithParam<gpu::DeviceKind> {
 protected:
  static constexpr std::int32_t kLayers = 3;
  static constexpr int kSteps = 2;

  RuntimeTimeline() {
    Config config;
    config.shape = resolved({kLayers, 4, 2, 32, 32, 0.f, 0.f});
    config.window = {4, 64, DType::f32};
    config.selector = lsh::LshParams{6, 40, 2, 9};
    config.never_slower = false;
    config.num_workers = 3;
    Runtime runtime(config, gpu::device_maker(GetParam()));
    TokenSource source(config.shape, 3);
    sequences = {runtime.create_sequence(), runtime.create_sequence()};
    const std::string path = (fs::path(::testing::TempDir()) / "tandem-runtime-timeline.json").string();
    runtime.start_timeline(path, 0);
    for (int step = 0; step <= kSteps; ++step) {
      const std::int64_t tokens = step == 0 ? 500 : 1;
      for (std::int32_t layer = 0; layer < kLayers; ++layer) {
        for (const std::uint64_t sequence : sequences) {
          const auto next = source.tokens(tokens);
          append(runtime, sequence, next.k, next.v, layer);
        }
        attend(runtime, sequences, {1, 1}, source.queries(2), {.layer = layer});
        attend(runtime, sequences, {1, 1}, source.queries(2), {.layer = layer, .exact = true});
      }
    }
    runtime.stop_timeline();
    for (const json& event : json::parse(std::ifstream(path))) {
      if (event.at("ph") != "X") continue;
      const std::int64_t begin = ns(event.at("ts"));
      events.push_back({event.at("name"), event.at("tid"), begin, begin + ns(event.at("dur")), event.at("args")});
    }
    fs::remove(path);
  }
  [[nodiscard]] std::vector<Event> of_call(const std::string& name, std::int64_t call) const {
    std::vector<Event> found;
    std::copy_if(events.begin(), events.end(), std::back_inserter(found),
                 [&](const Event& e) { return e.name == name && e.args.at("call") == call; });
    return found;
  }
  [[nodiscard]] std::vector<Event> named(const std::string& name) const {
    std::vector<Event> found;
    std::copy_if(events.begin(), events.end(), std::back_inserter(found),
                 [&](const Event& e) { return e.name == name; });
    return found;
  }
  [[nodiscard]] bool is_asynchronous() const { return GetParam() == gpu::DeviceKind::deferred; }

  std::vector<std::uint64_t> sequences;
  std::vector<Event> events;
};

INSTANTIATE_TEST_SUITE_P(Devices, RuntimeTimeline, ::testing::Values(gpu::DeviceKind::host, gpu::DeviceKind::deferred),
                         [](const auto& test) { return to_string(test.param); });

TEST_P(RuntimeTimeline, SpansNestOnEachThread) {
  std::map<std::int64_t, std::vector<Event>> threads;
  for (const Event& event : events) threads[event.tid].push_back(event);
  for (auto& [tid, spans] : threads) {
    std::vector<Event> open;
    for (const Event& span : spans) {  // in the order of the file: outer ones first
      while (!open.empty() && open.back().end <= span.begin) open.pop_back();
      if (!open.empty()) {
        EXPECT_LE(span.end, open.back().end) << span.name << " in " << open.back().name;
      }
      open.push_back(span);
    }
  }
}

TEST_P(RuntimeTimeline, SpansLieWithinTheirCall) {
  for (const Event& event : events) {
    auto calls = of_call("td_attend", event.args.at("call"));
    if (calls.empty()) calls = of_call("td_append", event.args.at("call"));
    ASSERT_EQ(calls.size(), 1u) << event.name;
    EXPECT_GE(event.begin, calls[0].begin) << event.name;
    EXPECT_LE(event.end, calls[0].end) << event.name;
    EXPECT_EQ(event.args.at("layer"), calls[0].args.at("layer")) << event.name;
  }
}

TEST_P(RuntimeTimeline, EveryTaskOfEveryStepIsThere) {
  for (const char* name : {"select", "attend", "merge"}) {
    std::set<std::vector<std::int64_t>> tasks;
    for (const Event& event : named(name)) {
      const auto arg = [&](const char* key) { return event.args.at(key).get<std::int64_t>(); };
      tasks.insert({arg("sequence"), arg("layer"), arg("kv_head"), arg("position")});
      EXPECT_GT(arg("rows"), 0) << name;
      EXPECT_GT(arg("bytes"), 0) << name;
    }
    EXPECT_EQ(tasks.size(), 2u * kLayers * 2u * (kSteps + 1)) << name;
  }
  EXPECT_EQ(named("td_attend").size(), 2u * kLayers * (kSteps + 1));
  EXPECT_EQ(named("td_append").size(), 2u * kLayers * (kSteps + 1));
  EXPECT_FALSE(named("append").empty());
  EXPECT_FALSE(named("evict").empty());
  EXPECT_EQ(named("index").size(), 2u * kLayers * 2u);  // once a head: no page leaves the window in the steps
  for (const char* name : {"append", "evict"}) {
    for (const Event& event : named(name)) {
      for (const char* key : {"sequence", "layer", "kv_head", "rows", "bytes"})
        EXPECT_TRUE(event.args.contains(key)) << name << ' ' << key;
    }
  }
}

TEST_P(RuntimeTimeline, TheHostTierDoesNotWaitForTheDevice) {
  if (!is_asynchronous()) {
    EXPECT_TRUE(named("window launch").empty());
    EXPECT_EQ(named("window").size(), named("merge").size());
    return;
  }
  EXPECT_TRUE(named("window").empty());
  std::size_t batches = 0;
  for (const Event& call : named("td_attend")) {
    const std::int64_t number = call.args.at("call");
    const auto launch = of_call("window launch", number), wait = of_call("window wait", number),
               batch = of_call("window batch", number);
    ASSERT_EQ(launch.size(), 1u);
    ASSERT_EQ(wait.size(), 1u);
    ASSERT_EQ(batch.size(), 1u);
    EXPECT_GE(batch[0].begin, wait[0].begin);  // deferred: when somebody waits
    EXPECT_LE(batch[0].end, wait[0].end);
    EXPECT_NE(batch[0].tid, wait[0].tid);
    for (const char* name : {"index", "select", "attend"}) {
      for (const Event& span : of_call(name, number)) {
        EXPECT_GE(span.begin, launch[0].end) << name;
        EXPECT_LE(span.end, wait[0].begin) << name;
      }
    }
    for (const Event& merge : of_call("merge", number)) EXPECT_GE(merge.begin, wait[0].end);
    ++batches;
  }
  EXPECT_EQ(batches, named("window batch").size());
}

}  // namespace
}  // namespace tandem::testing
