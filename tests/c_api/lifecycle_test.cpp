#include <cstring>
#include <set>
#include <thread>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

TEST(Lifecycle, VersionsAndNames) {
  EXPECT_EQ(td_abi_version(), TANDEM_ABI);
  EXPECT_THAT(td_version(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  std::set<std::string> names;
  for (int status = TD_EINTERNAL; status <= TD_OK; ++status)
    names.insert(td_status_name(static_cast<td_status>(status)));
  EXPECT_EQ(names.size(), 8u);
  EXPECT_STREQ(td_status_name(static_cast<td_status>(-99)), "unknown");
  EXPECT_NE(td_last_error(), nullptr);
}

TEST(Lifecycle, FromCreationToDestruction) {
  const Rt rt(config());
  const td_seq seq = create(rt);
  EXPECT_NE(seq, 0u);
  for (const std::int64_t step : {1, 5, 100, 1, 64}) fill(rt, seq, step, static_cast<std::uint32_t>(step));
  std::int64_t length = -1;
  EXPECT_EQ(td_seq_length(rt, seq, 1, &length), TD_OK);
  EXPECT_EQ(length, 171);
  auto info = init<td_seq_info>();
  EXPECT_EQ(td_seq_query(rt, seq, 0, &info), TD_OK);
  EXPECT_EQ(info.length, 171);
  EXPECT_EQ(info.window_rows + info.host_rows, 171);
  EXPECT_EQ(info.host_rows, 128);
  EXPECT_EQ(info.kv_bytes, info.host_rows * kKvHeads * 2 * kDim * 4);
  EXPECT_EQ(info.index_bytes, 0);
  attended(rt, seq, 3);
  EXPECT_EQ(td_seq_truncate(rt, seq, 50), TD_OK);
  td_seq fork = 0;
  EXPECT_EQ(td_seq_fork(rt, seq, -1, nullptr, &fork), TD_OK);
  EXPECT_NE(fork, seq);
  EXPECT_EQ(attended(rt, seq), attended(rt, fork));
  EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
  EXPECT_EQ(td_seq_destroy(rt, seq), TD_ESTATE);
  attended(rt, fork);
  EXPECT_EQ(td_seq_destroy(rt, fork), TD_OK);
}

TEST(Lifecycle, HandlesAreNeverReused) {
  const Rt rt(config());
  std::set<td_seq> seen;
  for (int i = 0; i < 20; ++i) {
    const td_seq seq = create(rt);
    EXPECT_TRUE(seen.insert(seq).second);
    EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
  }
}

TEST(Lifecycle, DestroyingNothingIsAllowed) { td_destroy(nullptr); }

TEST(Lifecycle, DestroyingTheRuntimeEndsItsSequences) {
  td_rt* rt = nullptr;
  const td_config c = config();
  ASSERT_EQ(td_create(&c, &rt), TD_OK);
  fill(rt, create(rt), 200, 1);
  create(rt);
  td_destroy(rt);
}

TEST(Lifecycle, EmptyCallsDoNothing) {
  const Rt rt(config());
  const td_seq seq = create(rt);
  Append append({seq}, {0}, 1);
  EXPECT_EQ(append.run(rt), TD_OK) << td_last_error();
  Attend attend({seq}, {0}, 1);
  EXPECT_EQ(attend.run(rt), TD_OK) << td_last_error();
  td_seq fork = 0;
  EXPECT_EQ(td_seq_fork(rt, seq, 0, nullptr, &fork), TD_OK);
  EXPECT_EQ(td_seq_truncate(rt, seq, 0), TD_OK);
  EXPECT_EQ(Snapshot(rt, {seq}).figures, Snapshot(rt, {fork}).figures);
}

TEST(Lifecycle, ATruncatedPromptMayBeForkedAtAnyLength) {
  const Rt rt(config());
  const td_seq seq = create(rt);
  fill(rt, seq, 300, 1);
  for (const std::int64_t length : {300, 299, 200, 196, 195, 68, 67, 5, 4, 3, 1, 0}) {
    td_seq fork = 0;
    ASSERT_EQ(td_seq_fork(rt, seq, length, nullptr, &fork), TD_OK) << td_last_error();
    const td_seq fresh = create(rt);
    fill(rt, fresh, 300, 1);
    ASSERT_EQ(td_seq_truncate(rt, fresh, length), TD_OK) << td_last_error();
    EXPECT_EQ(Snapshot(rt, {fork}).figures, Snapshot(rt, {fresh}).figures) << length;
    EXPECT_EQ(Snapshot(rt, {fork}).outputs, Snapshot(rt, {fresh}).outputs) << length;
    EXPECT_EQ(td_seq_destroy(rt, fork), TD_OK);
    EXPECT_EQ(td_seq_destroy(rt, fresh), TD_OK);
  }
}

TEST(Lifecycle, AForkMayHaveItsOwnSelector) {
  const Rt rt(config());
  const td_seq seq = create(rt);
  fill(rt, seq, 300, 1);
  const td_selector lsh = lsh_selector();
  td_seq fork = 0;
  ASSERT_EQ(td_seq_fork(rt, seq, -1, &lsh, &fork), TD_OK) << td_last_error();
  attended(rt, fork);
  auto info = init<td_seq_info>();
  ASSERT_EQ(td_seq_query(rt, fork, 0, &info), TD_OK);
  EXPECT_GT(info.index_bytes, 0);
  ASSERT_EQ(td_seq_query(rt, seq, 0, &info), TD_OK);
  EXPECT_EQ(info.index_bytes, 0);
}

TEST(Lifecycle, StatsCountRowsAndKeys) {
  const Rt rt(config());
  const td_seq seq = create(rt);
  auto appended = init<td_stats>();
  Append append({seq}, {300}, 1);
  append.args.stats = &appended;
  ASSERT_EQ(append.run(rt), TD_OK);
  EXPECT_GT(appended.bytes[TD_APPEND], 0);
  EXPECT_GT(appended.bytes[TD_EVICT], 0);
  auto stats = init<td_stats>();
  Attend attend({seq}, {1}, 1);
  attend.args.stats = &stats;
  ASSERT_EQ(attend.run(rt), TD_OK);
  EXPECT_EQ(stats.size, sizeof(td_stats));
  EXPECT_EQ(stats.num_workers, 2);
  EXPECT_EQ(stats.rows_window + stats.rows_host, 300 * kKvHeads);
  EXPECT_EQ(stats.rows_gathered, stats.rows_host);
  EXPECT_EQ(stats.keys_attended, 300 * kQHeads);
  EXPECT_EQ(stats.keys_visible, 300 * kQHeads);
  EXPECT_EQ(stats.lse_error, 0.0);
  attend.args.parts = TD_PART_STATIC;
  ASSERT_EQ(attend.run(rt), TD_OK);
  EXPECT_EQ(stats.rows_host, 0);
  EXPECT_EQ(stats.lse_error, -1.0);
}

TEST(Lifecycle, TheLastErrorBelongsToItsThread) {
  EXPECT_EQ(td_create(nullptr, nullptr), TD_EINVAL);
  const std::string here = td_last_error();
  EXPECT_NE(here, "");
  std::thread([] {
    EXPECT_STREQ(td_last_error(), "");
    EXPECT_EQ(td_create_json("{", nullptr), TD_EINVAL);
  }).join();
  EXPECT_EQ(td_last_error(), here);
  const Rt rt(config());  // a call that succeeds leaves the text alone
  EXPECT_EQ(td_last_error(), here);
}

TEST(Lifecycle, TheLogHookTakesAUserPointer) {
  std::vector<std::string> heard;
  td_set_log(
      [](int, const char* text, void* user) { static_cast<std::vector<std::string>*>(user)->emplace_back(text); },
      &heard);
  { const Rt rt(config()); }
  td_set_log(nullptr, nullptr);
  const std::size_t count = heard.size();
  { const Rt rt(config()); }
  EXPECT_EQ(heard.size(), count);
}

TEST(Describe, SaysHowMuchItNeedsAndTruncates) {
  const Rt rt(config());
  std::size_t needed = 0;
  ASSERT_EQ(td_describe(rt, nullptr, 0, &needed), TD_OK);
  ASSERT_GT(needed, 1u);
  std::string text(needed + 10, '#');
  std::size_t again = 0;
  ASSERT_EQ(td_describe(rt, text.data(), needed, &again), TD_OK);
  EXPECT_EQ(again, needed);
  EXPECT_EQ(std::strlen(text.c_str()), needed - 1);
  EXPECT_EQ(text.substr(needed), std::string(10, '#'));
  const std::string whole = text.c_str();
  for (const std::size_t capacity : {std::size_t{1}, std::size_t{2}, needed / 2, needed - 1}) {
    std::string part(needed, '#');
    ASSERT_EQ(td_describe(rt, part.data(), capacity, &again), TD_OK);
    EXPECT_EQ(again, needed);
    EXPECT_EQ(std::string(part.c_str()), whole.substr(0, capacity - 1));
    EXPECT_EQ(part.substr(capacity), std::string(needed - capacity, '#')) << "wrote beyond the capacity";
  }
  for (const char* field : {"\"config\"", "\"isa\"", "\"device\"", "\"machine\"", "\"memory\"", "\"version\""}) {
    EXPECT_THAT(whole, testing::HasSubstr(field));
  }
}

TEST(Describe, RefusesNullPointers) {
  const Rt rt(config());
  char buffer[8];
  std::size_t needed = 0;
  EXPECT_EQ(td_describe(nullptr, buffer, sizeof(buffer), &needed), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "rt is NULL");
  EXPECT_EQ(td_describe(rt, buffer, sizeof(buffer), nullptr), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "needed is NULL");
  EXPECT_EQ(td_describe(rt, nullptr, 8, &needed), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "buffer is NULL");
}

}  // namespace
}  // namespace c_api
