// td_timeline_start and td_timeline_stop.
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(Timeline, RecordsTheCallsBetweenStartAndStop) {
  const std::string path = testing::TempDir() + "tandem-c-api-timeline.json";
  const Rt rt(config());
  const td_seq seq = create(rt);
  EXPECT_EQ(td_timeline_stop(rt), TD_ESTATE);
  EXPECT_STREQ(td_last_error(), "no timeline is being recorded");
  EXPECT_EQ(td_timeline_start(rt, nullptr, 0), TD_EINVAL);
  EXPECT_EQ(td_timeline_start(rt, path.c_str(), 5), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "max_spans is 5; allowed: 1024 to 268435456, or 0 for 524288");
  EXPECT_EQ(td_timeline_start(rt, (path + "/no/t.json").c_str(), 0), TD_EIO);
  EXPECT_THAT(td_last_error(), testing::HasSubstr(path + "/no/t.json"));
  fill(rt, seq, 100, 1);
  ASSERT_EQ(td_timeline_start(rt, path.c_str(), 0), TD_OK) << td_last_error();
  EXPECT_EQ(td_timeline_start(rt, path.c_str(), 0), TD_ESTATE);
  const auto expected = attended(rt, seq);
  ASSERT_EQ(td_timeline_stop(rt), TD_OK) << td_last_error();
  EXPECT_EQ(attended(rt, seq), expected);  // watched or not
  const std::string text = text_of(path);
  EXPECT_THAT(text, testing::StartsWith("["));
  EXPECT_THAT(text, testing::EndsWith("]\n"));
  EXPECT_THAT(text, testing::HasSubstr("\"td_attend\""));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("\"td_append\"")));
  std::filesystem::remove(path);
}

TEST(Timeline, MayStartAndStopBesideOtherCalls) {
  const std::string path = testing::TempDir() + "tandem-c-api-timeline-threads.json";
  const Rt rt(config());
  std::vector<std::thread> engines;
  for (int t = 0; t < 2; ++t) {
    engines.emplace_back([&rt] {
      const td_seq seq = create(rt);
      for (int step = 0; step < 40; ++step) {
        fill(rt, seq, 4, 1);
        attended(rt, seq);
      }
    });
  }
  for (int round = 0; round < 5; ++round) {
    EXPECT_EQ(td_timeline_start(rt, path.c_str(), 2000), TD_OK) << td_last_error();
    EXPECT_EQ(td_timeline_stop(rt), TD_OK) << td_last_error();
  }
  for (std::thread& engine : engines) engine.join();
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace c_api
